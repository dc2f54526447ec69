# The commands of the README. On a fresh machine each of them first makes .venv and installs into it.
VENV   := .venv
BIN    := $(VENV)/bin
EXTRA  := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
FOLDERS := alignment embeddings pipeline retrieval stores validation
PYTHON ?= python3
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup nightly test test-fast check format bench chaos soak audit docs clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c requirements.lock -e '.[$(EXTRA),dev]'
	touch $@

nightly: setup  ## a whole night; LAKE=path for a lake of your own, WORKSPACE=path for another place
	$(BIN)/samespace nightly --workspace $(or $(WORKSPACE),workspace) $(if $(LAKE),--lake $(LAKE))

test: setup  ## the whole suite, a file at a time on each of two processors
	$(PYTEST)

test-fast: setup  ## the suite without the slow tests
	$(PYTEST) -m 'not slow'

check: setup  ## format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## every benchmark, in full, into docs/benchmarks.md; STAGES="encode publish" for these alone
	$(BIN)/pip install --quiet -c requirements.lock -e '.[$(EXTRA),dev,bench]'
	$(BIN)/python benchmarks/report.py $(if $(STAGES),--only $(STAGES))

chaos: setup  ## faults on purpose: readers under fire, killed nights and verbs, stopped commands, strange lakes, a busy service
	PYTHONPATH=. $(BIN)/python tests/chaos/publishing.py --publishes 30 --kills 5 --spaces 2
	PYTHONPATH=. $(BIN)/python tests/chaos/publishing.py --publishes 30 --kills 5 --spaces 2 --slots 2
	PYTHONPATH=. $(BIN)/python tests/chaos/publishing.py --publishes 30 --kills 5 --spaces 2 --store redis
	PYTHONPATH=. $(BIN)/python tests/chaos/nights.py --kills 100
	PYTHONPATH=. $(BIN)/python tests/chaos/encoding.py --trials 20 --kills 3
	PYTHONPATH=. $(BIN)/python tests/chaos/stopping.py --stops 20
	PYTHONPATH=. $(BIN)/python -W ignore tests/chaos/verbs.py --kills 20
	PYTHONPATH=. $(BIN)/python -W ignore tests/chaos/verbs.py --pairs
	PYTHONPATH=. $(BIN)/python -W ignore tests/chaos/serving.py --cycles 30 --clients 6
	PYTHONPATH=. $(BIN)/python tests/chaos/lakes.py --lakes 500 --nights 5
	PYTHONPATH=. $(BIN)/python -W ignore tests/chaos/outages.py --redis 30 --s3 30
	SAMESPACE_FUZZ=2000 $(BIN)/pytest tests/chaos/test_fuzz.py

soak: setup  ## a month of nights in a row: launches, departures, retrainings, bad nights, crashes; about 20 minutes
	PYTHONPATH=. $(BIN)/python -W ignore tests/chaos/soak.py --nights 30

audit: setup  ## known vulnerabilities of the pinned packages; fails too where the list of them cannot be had
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit -r requirements.lock --no-deps --disable-pip --strict

docs: setup  ## the documentation site in site/, every link and reference checked
	$(BIN)/pip install --quiet -c requirements.lock -e '.[$(EXTRA),dev,docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) workspace lake site
