# The targets people use. `make install` prepares .venv from the lock files; everything else depends on it and it does nothing twice.

PYTHON ?= python3.11
PORT ?= 8080
DATA_DIR ?= .dw-data
BENCH_ARGS ?=
TEST_ARGS ?=
# Test modules run side by side: most of their time is waiting for leases, timers and outages.
TEST_PROCESSES ?= 3

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := actors api bench bus node store

.PHONY: install dev test bench lint format lock clean

install: $(STAMP)

$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	touch $@

dev: install
	@$(BIN)/dw-server dev --port $(PORT) --data-dir $(DATA_DIR)

test: install
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(TEST_ARGS)

bench: install
	$(BIN)/python -m bench $(BENCH_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES) tests)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Needs uv on PATH. Change pyproject.toml, then run this and commit all three.
LOCK := uv pip compile pyproject.toml --quiet --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	--python-version 3.11 --python-platform x86_64-manylinux_2_36 --no-annotate

lock:
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean:
	test ! -L $(DATA_DIR)/postgres || rm -rf "$$(readlink $(DATA_DIR)/postgres)"
	rm -rf $(VENV) $(DATA_DIR) .mypy_cache .pytest_cache .ruff_cache build *.egg-info
