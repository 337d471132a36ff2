# `make train` and `make test` work alone on a fresh clone: they make .venv, install the pinned versions, and run.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
RUN := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --constraint constraints.txt
# One thread a process, as small networks are slower on two, and as many processes as there are cores; a file of tests
# stays in one of them.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: train test test-slow test-sb3 test-sklearn lint clean help

train: $(INSTALLED)  ## train an agent on CartPole, in seconds
	$(BIN)/sandbox train CartPole-v1

test: $(INSTALLED)  ## all tests but the slow ones
	$(TEST)

test-slow: $(INSTALLED)  ## the learning runs that take a minute and more
	$(TEST) -m slow

test-sb3: $(INSTALLED)  ## Stable-Baselines3's own tests with our agents: make test-sb3 SB3=path/to/its/checkout
	OMP_NUM_THREADS=1 $(BIN)/python tests/sb3_suite.py $(SB3)

test-sklearn: $(INSTALLED)  ## scikit-learn's own tests of k-means with ours in the place of its own
	OMP_NUM_THREADS=1 $(BIN)/python tests/sklearn_suite.py

lint: $(INSTALLED)  ## style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove what make has made; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*##/\t/'

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the pinned versions into .venv (a few minutes, once)"
	$(RUN) --editable '.[all,dev]'
	@touch $(INSTALLED)
