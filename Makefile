# Targets for people and CI. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
# Tests wait for programs more than they compute: one worker above the number of cores.
TEST_WORKERS ?= $(shell expr $$(nproc) + 1)
# Every top-level package, and the tests, which are none.
CODE := $(patsubst %/__init__.py,%,$(wildcard */__init__.py)) tests

# What the shells run: by the first line, for they have no endings.
SCRIPTS := $(shell grep --files-with-matches --recursive --max-count=1 --extended-regexp '^\#!.*[/ ](ba)?sh$$' scripts compose)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.installed ## build and run real images, end to end, on a fresh machine too
	@scripts/install-debian run base serve demo
	@scripts/demo

.PHONY: test
test: check ## check, then every test (as root)
	@scripts/install-debian run base serve demo test
	@VENV=$(VENV) scripts/test $(TEST_WORKERS)

.PHONY: test-all
test-all: $(VENV)/.installed ## hours: every Python, newest dependencies, coverage, mutants (ARGS="coverage")
	@scripts/install-debian run base serve demo test
	@scripts/test-all $(ARGS)

.PHONY: check
check: $(VENV)/.installed ## lint, formatting, types, scripts, and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/shellcheck $(SCRIPTS)
	$(BIN)/oxlint --deny-warnings web/static

.PHONY: bench
bench: $(VENV)/.installed ## measure against BuildKit and buildah (ARGS="--runs 3 --rows run20")
	@scripts/install-debian run base serve bench
	$(BIN)/python -m bench $(ARGS)
	$(BIN)/python -m bench.registry $(REGISTRY_ARGS)
	$(BIN)/python -m bench.service $(SERVICE_ARGS)
	$(BIN)/python -m bench.pages $(PAGES_ARGS)
	$(BIN)/python -m bench.growth $(GROWTH_ARGS)

.PHONY: format
format: $(VENV)/.installed ## put all code into the one format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: lock
lock: $(VENV)/.installed ## resolve requirements.lock anew from pyproject.toml
	@scripts/lock

.PHONY: clean
clean: ## remove the environment and what tools left here
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: requirements.lock pyproject.toml scripts/venv
	@scripts/install-debian run
	scripts/venv $(VENV)
	@touch $@
