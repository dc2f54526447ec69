# The commands of the README. On a fresh machine each of them first makes .venv and installs into it.
VENV   := .venv
BIN    := $(VENV)/bin
EXTRA  := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
FOLDERS := alignment embeddings pipeline retrieval stores validation
PYTHON ?= python3

.PHONY: setup nightly test test-fast check format bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c requirements.lock -e '.[$(EXTRA),dev]'
	touch $@

nightly: setup  ## a whole night; LAKE=path for a lake of your own, WORKSPACE=path for another place
	$(BIN)/samespace nightly --workspace $(or $(WORKSPACE),workspace) $(if $(LAKE),--lake $(LAKE))

test: setup  ## the whole suite
	$(BIN)/pytest

test-fast: setup  ## the suite without the slow tests
	$(BIN)/pytest -m 'not slow'

check: setup  ## format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## every benchmark, in full
	$(BIN)/pip install --quiet -c requirements.lock -e '.[$(EXTRA),dev,bench]'
	for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script --size full || exit 1; done

clean:
	rm -rf $(VENV) workspace lake
