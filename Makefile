# Everything runs in the virtual environment .venv, which the first target that needs it makes.
PYTHON ?= python3.11
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=
FAMILY ?= llama

BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test test-browser test-faults check format bench pocket report audit clean

help: ## Show what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14
	@echo "Variables: ARGS (more arguments), JOBS (processes of make test), PYTHON=python3.11, TORCH_INDEX=URL of the wheels of a CPU or CUDA torch"

run: $(READY) ## Run the main job: python launch.py $(ARGS)
	$(BIN)/python launch.py $(ARGS)

test: $(READY) ## Run the whole test suite in JOBS=2 processes: pytest $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(or $(JOBS),2) --dist worksteal $(ARGS)

test-browser: $(READY) ## Open a report in Chromium, at two widths and in both colour schemes
	$(BIN)/python -m pytest tests/browser_checks.py $(ARGS)

test-faults: $(READY) ## Kill 200 processes while they measure: nothing lost, nothing twice, the same report
	$(BIN)/python -m pytest tests/test_faults.py --kills 200 $(ARGS)

check: $(READY) ## Lint, formatting and types: ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Format the code and fix what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measure panels, policies and contracts, in units of one prefill: ARGS="--sections panels"
	$(BIN)/python -m vorn.bench $(ARGS)

report: $(READY) ## Report on ledgers without a model: make report ARGS="ledgers --out report"
	$(BIN)/python -m vorn.report $(or $(ARGS),ledgers)

audit: $(READY) ## Recompute published results or ledgers: make audit ARGS="results --rows"
	$(BIN)/python -m vorn.audit $(or $(ARGS),ledgers)

pocket: $(READY) ## Train a pocket model again, FAMILY=llama, qwen3 or gemma2: resumable, within an hour on two cores
	$(BIN)/python -m vorn.models.pocket.train --family $(FAMILY) --out checkpoints/pocket_$(FAMILY)/final $(ARGS)

clean: ## Remove the virtual environment and caches; ledgers and outputs stay
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache

# Installed again when the requirements change, and only then. A failed installation leaves no $(READY).
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "error: $(PYTHON) not found. Vorn needs Python 3.11: install it (python.org, your package manager, pyenv" >&2; \
	  echo "or conda), or name it: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), but Vorn needs Python 3.11;" >&2; \
	  echo "name one: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) install --quiet --index-url $(TORCH_INDEX) --constraint constraints.txt --no-deps torch)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@
