# make run, make test, make check: each makes .venv from the lock file first if needed.
PYTHON ?= python3
VENV := .venv
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

# `make test-slow` adds the tests that take minutes, `make test-cluster` those that start a cluster's services, `make test-gpu` those
# of what a GPU computes, by the environment that is there: with .venv or without. `make test-faults` deals faults drawn by a seed,
# which SEED=N sets.
.PHONY: run test test-slow test-cluster test-gpu test-faults check lint types lock

run: $(VENV)/.ready
	$(IN_VENV) snakemake --quiet host progress reason rules
	$(IN_VENV) python -m rsa show

test: $(VENV)/.ready
	$(IN_VENV) pytest -n 2 -m "not slow and not cluster and not faults"

test-slow: $(VENV)/.ready
	$(IN_VENV) pytest -n 2 -m "slow and not cluster and not faults"

test-cluster: $(VENV)/.ready
	$(IN_VENV) pytest -n 2 tests/cluster -m cluster -rs --durations=0 --durations-min=1

test-faults: $(VENV)/.ready
	$(IN_VENV) pytest tests/faults -n 2 -m faults $(if $(SEED),--seed $(SEED)) -rs --durations=10

# Other versions of packages than the locked ones may warn of other things.
test-gpu:
	$(IN_VENV) $(PYTHON) -m pytest tests/gpu -n 8 -rs -W default --durations=5

check: lint types test

lint: $(VENV)/.ready
	$(IN_VENV) ruff check .
	$(IN_VENV) ruff format --check .

types: $(VENV)/.ready
	$(IN_VENV) mypy

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2> /dev/null \
	  || { echo "make: $(PYTHON) must be Python 3.11 to 3.14: name one by \`make PYTHON=python3.12 run\`"; exit 1; }
	@echo "make: installing the packages of requirements.lock into $(VENV): 7 GB, which takes minutes"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# New versions: needs uv; writes no index address.
lock:
	uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --quiet -o requirements.lock
