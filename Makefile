# The targets people use (`make help`). `make install` prepares .venv from the lock files; everything else depends on it and it does
# nothing twice.

.DEFAULT_GOAL := help

PYTHON ?= python3.11
PORT ?= 8080
DATA_DIR ?= .dw-data
BENCH_ARGS ?=
SOAK_ARGS ?=
TEST_ARGS ?=
# Test modules run side by side: most of their time is waiting for leases, timers and outages.
TEST_PROCESSES ?= 3

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := actors api base bench bus durable_workflow_server node store

# Tests that need neither PostgreSQL nor NATS.
CHECKS := tests/core/test_examples_*.py tests/core/test_matching.py tests/core/test_cost.py tests/core/test_view_order.py \
	tests/schedule/test_examples_*.py tests/schedule/test_cron.py tests/schedule/test_spec.py \
	tests/api/test_credentials.py tests/base tests/bus/test_recent.py tests/bus/test_subjects.py tests/node/test_config.py tests/bench/test_numbers.py \
	tests/docs/test_citations.py tests/docs/test_generated.py tests/docs/test_layers.py tests/docs/test_observability.py \
	tests/walkthrough/test_feature_table.py

.PHONY: help install dev check test proofs soak bench lint format docs lock clean

help: ## what there is to do
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

install: $(STAMP) ## prepare .venv

$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	touch $@

dev: install ## a server with its own PostgreSQL and NATS (PORT=8080 DATA_DIR=.dw-data)
	@$(BIN)/dw-server dev --port $(PORT) --data-dir $(DATA_DIR)

test: install ## all tests but the longest proofs (TEST_ARGS="tests/api -k limits" for some)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not proof" $(TEST_ARGS)

proofs: install ## the tests that take minutes each: faults by the dozen, first starts killed at any moment
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m proof $(TEST_ARGS)

check: lint ## lint, and the tests that need no service
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(CHECKS)

soak: install ## 120,000 mutated requests over all routes (SOAK_ARGS="--requests 5000 --seed 1" for some)
	$(BIN)/python -m tests.soak $(SOAK_ARGS)

docs: install ## the generated pages of docs/
	$(BIN)/python -m tests.docs.generate

bench: install ## measure (BENCH_ARGS="standard --duration 60" for some)
	$(BIN)/python -m bench $(BENCH_ARGS)

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES) tests)

format: install ## sort imports and lay out code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Needs uv on PATH. Change pyproject.toml, then run this and commit all three.
LOCK := uv pip compile pyproject.toml --quiet --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	--python-version 3.11 --python-platform x86_64-manylinux_2_36 --no-annotate

lock: ## resolve the lock files anew (needs uv)
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## remove .venv, caches and the data of make dev
	test ! -L $(DATA_DIR)/postgres || rm -rf "$$(readlink $(DATA_DIR)/postgres)"
	rm -rf $(VENV) $(DATA_DIR) .mypy_cache .pytest_cache .ruff_cache build *.egg-info
