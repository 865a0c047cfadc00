# The README's commands. `make install` does nothing where .venv is up to date with pyproject.toml.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: install demo test lint clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): torch and friends, a few minutes"
	$(VENV)/bin/python -m pip install -qq --editable '.[demo,dev]'
	touch $(STAMP)

demo: install
	$(VENV)/bin/armada demo

test: install
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) armada-demo armada-demo-quick
