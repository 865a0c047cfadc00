# The README's commands. `make install` does nothing where .venv is up to date with pyproject.toml.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= demo,dev
STAMP := $(VENV)/.installed

# What shows in two minutes that an interpreter or a machine works: bytes, keys, builds, reading, losses, golden figures.
QUICK ?= tests/teacher_cache $(shell find tests -name test_golden.py)

.PHONY: install demo test quick lint docs site clean

install: $(STAMP)

# An install that was interrupted is taken up by the same command: what pip has downloaded is in its cache, what it has
# installed stays, and a package that it was killed in the middle of (it writes RECORD last) is installed anew.
$(STAMP): pyproject.toml
	@echo "Installing armada with [$(EXTRAS)] and $$($(PYTHON) --version) into $(VENV)."
	@echo "On Linux: about 3.9 GB to download and 7.7 GB on disk, 5 of them PyTorch and the CUDA libraries that it brings;"
	@echo "$$(df -hP . | awk 'NR == 2 {print $$4}') are free here. Takes 2 minutes and the download. If it is interrupted,"
	@echo "the same command goes on."
	$(PYTHON) -m venv $(VENV)
	@find $(VENV)/lib -type d -name '*.dist-info' ! -exec test -e '{}/RECORD' ';' -prune -exec rm -r '{}' +
	$(VENV)/bin/python -m pip install --editable '.[$(EXTRAS)]'
	@touch $(STAMP)
	@echo "Installed: $$(du -sh $(VENV) | cut -f1) in $(VENV). The command is $(VENV)/bin/armada; after"
	@echo "\`source $(VENV)/bin/activate\` it is armada."

demo: install
	$(VENV)/bin/armada demo

test: install
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2

quick: install
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 -q $(QUICK)

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy examples docs/code

# The pages that are printed by the program itself.
docs: install
	$(VENV)/bin/python -m typer pipelines.cli utils docs --name armada --output docs/command-line.md
	$(VENV)/bin/armada train --options >docs/train-options.md
	$(VENV)/bin/python docs/code/error_index.py >docs/errors.md

# The pages as a site in build/site, with the Python interface from its docstrings. A broken link or anchor fails.
site: install
	@$(VENV)/bin/python -c "import material, mkdocstrings_handlers.python" 2>/dev/null || \
		$(VENV)/bin/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
	@echo "Open build/site/index.html, or with its search: python3 -m http.server --directory build/site"

clean:
	rm -rf $(VENV) armada-demo armada-demo-quick
