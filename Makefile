# Targets for people and CI. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
# Tests wait for programs as long as they compute: two workers a core, and one.
TEST_WORKERS ?= $(shell expr 2 '*' $$(nproc) + 1)
# Every top-level package, and the tests, which are none.
CODE := $(patsubst %/__init__.py,%,$(wildcard */__init__.py)) tests

# What `make check` runs, some at once, in this order.
CHECKS := ruff format types imports scripts pages documents spelling references

# Its own list of mistakes, and ours: the house writes British English.
SPELL := $(BIN)/codespell --dictionary - --dictionary scripts/british.txt

# What is read as text beside the code.
PROSE := $(wildcard *.md) docs scripts compose examples Makefile

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
test-all: $(VENV)/.installed ## hours: every Python, newest dependencies, coverage, mutants, faults (ARGS="coverage")
	@scripts/install-debian run base serve demo test
	@scripts/test-all $(ARGS)

.PHONY: check
check: $(VENV)/.installed ## lint, formatting, types, imports, scripts, documents, spelling, references
	@$(MAKE) --jobs=$$(nproc) --output-sync $(CHECKS:%=check-%)

# Each check by itself: .pre-commit-config.yaml has the same list.
.PHONY: $(CHECKS:%=check-%)
$(CHECKS:%=check-%): $(VENV)/.installed

check-ruff:
	$(BIN)/ruff check

check-format:
	$(BIN)/ruff format --check

check-types:
	$(BIN)/mypy $(CODE)

check-imports:
	$(BIN)/lint-imports

check-scripts:
	$(BIN)/shellcheck $(SCRIPTS)

check-pages:
	$(BIN)/oxlint --deny-warnings web/static

check-documents:
	$(BIN)/python -m tests.toolkit.documents --check $(filter-out CHANGELOG.md,$(wildcard *.md)) docs

# What stands in quotes in a test may be misspelt on purpose.
check-spelling:
	$(SPELL) $(filter-out tests,$(CODE)) $(PROSE)
	$(SPELL) --ignore-regex '(?<!")"[^"\n]+"(?!")|`[^`]+`' tests

check-references:
	$(BIN)/python -m tests.toolkit.references

.PHONY: bench
bench: $(VENV)/.installed ## measure against BuildKit, buildah, dockerd and podman (ARGS="--runs 3 --rows run20")
	@scripts/install-debian run base serve bench
	$(BIN)/python -m bench $(ARGS)
	$(BIN)/python -m bench.registry $(REGISTRY_ARGS)
	$(BIN)/python -m bench.service $(SERVICE_ARGS)
	$(BIN)/python -m bench.pipeline $(PIPELINE_ARGS)
	$(BIN)/python -m bench.changed $(CHANGED_ARGS)
	$(BIN)/python -m bench.floors $(FLOORS_ARGS)
	$(BIN)/python -m bench.hosts $(HOSTS_ARGS)
	$(BIN)/python -m bench.dependencies $(DEPENDENCIES_ARGS)
	$(BIN)/python -m bench.pages $(PAGES_ARGS)
	$(BIN)/python -m bench.runpage $(RUNPAGE_ARGS)
	$(BIN)/python -m bench.engine $(ENGINE_ARGS)
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
