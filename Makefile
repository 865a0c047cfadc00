# The README's commands. `make install` does nothing where .venv is up to date with pyproject.toml.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= demo,dev
STAMP := $(VENV)/.installed

# What shows in two minutes that an interpreter or a machine works: bytes, keys, builds, reading, losses, golden figures.
QUICK ?= tests/teacher_cache $(shell find tests -name test_golden.py)

.PHONY: install demo test quick fuzz coverage mutants bench gpu lint docs site clean

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

# Every reader of foreign bytes gets damaged files for so many seconds; the default suite gives it a few hundred.
FUZZ_SECONDS ?= 10
fuzz: install
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 ARMADA_FUZZ_SECONDS=$(FUZZ_SECONDS) $(VENV)/bin/python -m pytest -n 2 -q tests/fuzz

# The lines that the default suite runs, in the processes that it starts too. A test with a bound of time may fail under
# it, which is told and decides nothing; fewer than 92 in 100 lines are an error.
coverage: install
	rm -f .coverage .coverage.*
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV)/bin/python -m coverage run -m pytest -n 2 -q || test $$? -eq 1
	$(VENV)/bin/python -m coverage combine -q
	$(VENV)/bin/python -m coverage report

# Changes the code of keys, commits, join, losses and statistics in one place after the other, and runs their tests:
# a change that no test notices is a survivor. docs/testing.md explains those that are left. Takes over 20 minutes.
mutants: install
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV)/bin/mutmut run --max-children 2
	$(VENV)/bin/mutmut results

bench: install
	$(VENV)/bin/python benchmarks/all.py

# Without a GPU it says so, with exit code 69.
gpu: install
	$(VENV)/bin/python benchmarks/gpu.py

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
	rm -rf $(VENV) armada-demo armada-demo-quick armada-bench armada-gpu mutants .coverage .coverage.*
