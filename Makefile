# All set-up happens here, from nothing, in .venv; a second call finds it done.
#   make demo       sample scenes from the bundled example image
#   make test       the test suite          make test-all   with the slow tests
#   make lint       style and types         make bench      speed beside its floors
#   make site       the documentation, as pages in site/
# PYTHON=... chooses the interpreter (3.11 or later, with the venv module).

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
OUT ?= unseen-demo
CANDIDATES := python3 python3.11 python3.12 python3.13 python3.14
SUITABLE := 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
FIND_PYTHON := for python in $(CANDIDATES); do \
	$$python -c $(SUITABLE) 2>/dev/null && echo $$python && break; done
PYTHON ?= $(shell $(FIND_PYTHON))
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt

.PHONY: demo test test-all lint bench site clean

demo: $(VENV)/core.stamp
	$(BIN)/unseen demo --out $(OUT) --overwrite

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest $(ARGS)

test-all: $(VENV)/dev.stamp
	$(BIN)/python -m pytest --run-slow $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/core.stamp
	$(BIN)/python -m benchmarks $(ARGS)

site: $(VENV)/dev.stamp
	$(BIN)/mkdocs build --quiet
	@echo "site/index.html"

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build site unseen.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "unseen needs Python 3.11 or later with its venv \
	module: install one, or name it with make PYTHON=/path/to/python3."; exit 1; }
	@echo "Creating $(VENV) with $(PYTHON)."
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Installing unseen and what it needs (a few minutes the first time)."
	$(INSTALL) --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	@echo "Installing what the tests need."
	$(INSTALL) --editable '.[dev]'
	@touch $@
