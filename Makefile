# Every target works on a fresh clone: it makes .venv from the pinned versions first.

# A name on the PATH may be a shim for a version that is not installed, so each candidate is run.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
READY := $(VENV)/.ready
PROTOS = $(wildcard proto/zhifu/v1/*.proto)
BASELINE := proto/baseline.binpb

# $(call generate,DIR): the Python code of all .proto files, below DIR.
generate = $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:$(1) $(PROTOS)

.PHONY: help demo test pictures check bench bench-search soak lint format types imports proto proto-check proto-baseline lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## one discharge settled by all parties, on this computer
	@$(BIN)/zhifu demo

# Whatever the environment says, what one process compiled the next one finds: tests start hundreds.
test: export PYTHONDONTWRITEBYTECODE =
test: $(READY) ## all tests, warnings are errors
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

pictures: $(READY) ## the pages as they look, into build/screenshots: both languages, a phone and a desktop
	@ZHIFU_PICTURES=1 $(BIN)/python -m pytest $(shell grep -l tests.browser tests/test_*.py)

check: lint types imports proto-check ## style, types, direction of imports, protocol: lint, breaking changes, drift

bench: $(READY) ## the figures of DESIGN section 10, beside a bare relay
	@$(BIN)/python -m tests.bench

bench-search: $(READY) ## what an auditor waits for a search of a million entries
	@$(BIN)/python -m tests.bench.search

soak: $(READY) ## long run with faults, and the tests that are too slow for `make test`
	@$(BIN)/python -m tests.soak
	@$(BIN)/python -m pytest -m soak

lint: $(READY) ## ruff, rules and format
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo 'the files above need: make format'; exit 1; }

format: $(READY) ## let ruff mend what it can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: $(READY) ## mypy, strict
	@$(BIN)/mypy

imports: $(READY) ## import-linter, with the contracts in pyproject.toml
	@$(BIN)/lint-imports --no-cache --no-logo

proto: $(READY) ## regenerate the code in proto/zhifu/v1
	@rm -f proto/zhifu/v1/*_pb2*.py proto/zhifu/v1/*_pb2*.pyi
	@$(call generate,proto)

proto-check: $(READY) ## buf lint, buf breaking, and whether the committed code is what the .proto files give
	@$(BIN)/buf lint
	@$(BIN)/buf breaking --against $(BASELINE)
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call generate,"$$fresh") && \
		diff --recursive --brief --exclude='*.proto' --exclude=__init__.py --exclude=__pycache__ \
		"$$fresh/zhifu/v1" proto/zhifu/v1 || { echo 'the generated code has drifted: make proto'; exit 1; }

proto-baseline: $(READY) ## on a release only: what later versions must stay compatible with
	@$(BIN)/buf build -o $(BASELINE)

lock: ## pin the newest versions that pyproject.toml allows
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer with venv is needed'; exit 1; }
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(PYTHON) -m venv "$$fresh" && \
		"$$fresh/bin/python" -m pip --disable-pip-version-check -qq install --editable '.[dev]' && \
		{ echo '# Made by "make lock" from pyproject.toml; used as constraints.'; \
		"$$fresh/bin/python" -m pip --disable-pip-version-check freeze --exclude-editable; } > requirements.lock

clean: ## remove what the other targets made
	@rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# hatchling comes from the lock too, so the package is built without a second, unpinned environment.
$(READY): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer with venv is needed (or say which: make PYTHON=...)'; exit 1; }
	@echo 'installing into $(VENV) ...'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --constraint requirements.lock hatchling editables
	@$(PIP) install --constraint requirements.lock --no-build-isolation --editable '.[dev]'
	@touch $@
