# `make demo` and `make test` set everything up by themselves: a virtual environment in .venv with
# the pinned packages, then the run. `make help` lists what else there is.

PYTHON ?= python3
VENV ?= .venv
# The address of another package index for torch alone, such as PyTorch's own index of CPU builds
TORCH_INDEX ?=
TORCH := 'torch>=2.9,<2.14'
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: help setup demo test lint bench docs clean

help:
	@echo 'make demo    the miniature world: weights, text and router, with a report in demo.html'
	@echo 'make test    ruff, mypy and the test suite'
	@echo 'make lint    ruff and mypy alone'
	@echo 'make bench   the benchmarks of docs/benchmarks'
	@echo 'make docs    the site, in site/'
	@echo 'make clean   remove the virtual environment'

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "memkit needs Python 3.11 or later, this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'Python has no venv module here. On Debian: apt-get install python3-venv'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	[ -z '$(TORCH_INDEX)' ] || $(BIN)/python -m pip install --index-url '$(TORCH_INDEX)' $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

demo: setup
	$(BIN)/memkit demo --out demo.html

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --benchmark-disable

bench: setup
	$(BIN)/python -m pytest docs/benchmarks --benchmark-only --benchmark-columns=min,median,rounds

docs: setup
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV)
