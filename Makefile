# `make run` and `make test` do all the set-up themselves; it is skipped while nothing has changed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test check format docs bench quality chaos load fuzz audit long-run verify-matrix setup clean

run: $(VENV)/.ready
	$(BIN)/peft-sentiment run $(ARGS)

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.ready-dev
	$(BIN)/python -m peft_sentiment.reporting.reference > docs/settings.md

verify-matrix: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/verify_matrix.py

fuzz: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python benchmarks/fuzz.py $(ARGS)

bench: $(VENV)/.ready
	$(PIP_INSTALL) -e '.[bench]'
	$(BIN)/python benchmarks/bench.py $(ARGS)

quality: $(VENV)/.ready
	$(BIN)/python benchmarks/quality.py $(ARGS)

chaos: $(VENV)/.ready
	$(BIN)/python benchmarks/chaos.py $(ARGS)

load: $(VENV)/.ready
	$(PIP_INSTALL) -e '.[serve,load,onnx]'
	$(BIN)/python benchmarks/load.py $(ARGS)

long-run: $(VENV)/.ready
	$(BIN)/python benchmarks/long_run.py $(ARGS)

# pip-audit has a folder of its own, so that nothing of it comes among the pins that it looks at.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.0
	.venv-audit/bin/python benchmarks/audit.py

setup: $(VENV)/.ready-dev

clean:
	rm -rf $(VENV) .venv-audit build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP_INSTALL) -e '.[dev]'
	touch $@
