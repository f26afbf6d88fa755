# All commands. Needs Python 3.11 or newer and make; fetches the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
# make would remove an environment that it made on the way to something else.
.SECONDARY:

PYTHON ?= python3
#: More words for pytest, the bench or `inferline local`: make test ARGS="-k sse -x".
ARGS ?=
#: How many test files run in parallel: they wait more than they compute.
WORKERS ?= 4
#: make lock UPGRADE=--upgrade takes newer releases; without it only what must change does.
UPGRADE ?=

# uv, if there is one that runs; else its own small environment.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .tools/uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE ?= copy
export UV_NO_PROGRESS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A stamp stands for an environment that holds what its lock says.
LOCAL := .venv/.local
DEV := .venv/.dev
INFRA := .venv/.infra
CDK := infra/node_modules/.synced
SIMULATOR := tests/infra/node_modules/.synced
AXE := tests/dashboard/node/node_modules/.synced
CLIENTS := .venv-clients/.synced
BENCH := .venv-bench/.synced
SCANNERS := .venv-scanners/.synced
SCHEMATHESIS := .venv-schemathesis/.synced
PROJECT := pyproject.toml inferline/__init__.py

# The clients in JavaScript are tried where there is npm; their tests skip without, except on CI.
NODE := tests/clients/node
NODE_CLIENTS := $(if $(and $(wildcard $(NODE)/package-lock.json),$(shell command -v npm)),$(NODE)/node_modules/.synced)

RUN_CDK := .venv/bin/python -m infra.node cdk
INSTALL_PROJECT = $(UV) pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" $(UPGRADE)

.PHONY: help
help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(LOCAL) ## Run everything on this machine: gateway, provider, LLM, AWS emulator
	@.venv/bin/inferline local $(ARGS)

.PHONY: install
install: $(DEV) $(CDK) $(SIMULATOR) $(AXE) $(SCANNERS) $(SCHEMATHESIS) ## Set up .venv for work on InferLine

.PHONY: docs
docs: $(DEV) ## Rewrite the tables of options in docs/ and cdk.json
	@.venv/bin/python -m tests.support.tables

.PHONY: test
test: $(DEV) $(CLIENTS) $(NODE_CLIENTS) $(CDK) $(SIMULATOR) $(AXE) $(SCANNERS) $(SCHEMATHESIS) ## Run every test
	@# 5: nothing to run, as where ARGS name tests of one kind only.
	@beside=0; alone=0; \
	.venv/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m 'not serial' $(ARGS) || beside=$$?; \
	.venv/bin/pytest -m serial $(ARGS) || alone=$$?; \
	case $$beside,$$alone in 0,0|0,5|5,0) ;; *) exit 1 ;; esac

.PHONY: check
check: $(DEV) ## Lint, formatting, types and the borders between packages
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/hadolint docker/Dockerfile

.PHONY: format
format: $(DEV) ## Format the code and fix what can be fixed
	@.venv/bin/ruff check --fix-only --quiet .
	@.venv/bin/ruff format .

.PHONY: bench
bench: $(DEV) $(BENCH) ## Measure, also against LiteLLM's proxy, for two hours (ARGS="latency --quick": a look at one part)
	@.venv/bin/python -m bench $(ARGS)

.PHONY: chaos
chaos: $(DEV) ## Kill processes and break AWS under load, and judge every answer (ARGS="--requests 10000")
	@.venv/bin/python -m tests.chaos $(ARGS)

.PHONY: interop
interop: $(DEV) ## Try real LLM servers, clients and AWS emulators, and write docs/compatibility.md (ARGS="--only vLLM")
	@.venv/bin/python -m tests.interop $(ARGS)

.PHONY: fuzz
fuzz: export FUZZ_TIMES ?= 20
fuzz: export FUZZ_SEED ?= $(shell echo $$RANDOM)
fuzz: $(DEV) $(SCHEMATHESIS) ## Send the gateway hostile requests, twenty times as many as the tests do, of a new seed
	@.venv/bin/pytest tests/fuzz $(ARGS)

.PHONY: synth
synth: $(INFRA) $(CDK) ## Make the CloudFormation template and the functions' bundle, in cdk.out
	@$(RUN_CDK) synth --quiet $(ARGS)

.PHONY: deploy
deploy: $(INFRA) $(CDK) ## Deploy to the AWS account that the environment names
	@.venv/bin/python -m infra.deploy $(ARGS)

.PHONY: destroy
destroy: $(INFRA) $(CDK) ## Remove all of it from that account, once you have said so
	@.venv/bin/python -m infra.destroy $(ARGS)

.PHONY: deploy-emulator
deploy-emulator: $(LOCAL) $(INFRA) $(CDK) ## Deploy to an AWS emulator here and ask a real model (ARGS=--once: then end)
	@.venv/bin/python -m infra.emulator $(ARGS)

.PHONY: lock
lock: | $(UV) ## Rewrite requirements/*.txt
	@$(COMPILE) pyproject.toml --all-extras --group dev -o requirements/dev.txt
	@$(COMPILE) pyproject.toml --extra local --group build -c requirements/dev.txt -o requirements/local.txt
	@$(COMPILE) pyproject.toml --extra gateway --group build --group infra -c requirements/dev.txt -o requirements/infra.txt
	@$(COMPILE) pyproject.toml --extra gateway --group functions -c requirements/dev.txt -o requirements/functions.txt
	@$(COMPILE) pyproject.toml --extra gateway --extra otel -c requirements/dev.txt -o requirements/gateway.txt
	@$(COMPILE) pyproject.toml --extra provider --extra otel -c requirements/dev.txt -o requirements/provider.txt
	@$(COMPILE) --group build -c requirements/dev.txt -o requirements/build.txt
	@$(COMPILE) requirements/emulator.in -c requirements/dev.txt -o requirements/emulator.txt
	@$(COMPILE) requirements/llm.in -c requirements/dev.txt -o requirements/llm.txt
	@$(COMPILE) requirements/scanners.in -o requirements/scanners.txt
	@$(COMPILE) requirements/schemathesis.in -o requirements/schemathesis.txt
	@$(COMPILE) requirements/clients.in -o requirements/clients.txt
	@$(COMPILE) requirements/bench.in -o requirements/bench.txt
	@! grep -nE '://|^ *--(index|extra-index|find-links)' requirements/*.txt || { \
		echo 'A lock names where its packages come from; it must not.' >&2; exit 1; }

.PHONY: clean
clean: ## Remove all that make, the tests and the checks made
	rm -rf .interop .venv .venv-clients .venv-bench .venv-scanners .venv-schemathesis .tools build dist cdk.out
	rm -rf $(NODE)/node_modules infra/node_modules tests/infra/node_modules tests/dashboard/node/node_modules
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find inferline provider functions infra tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The rest is how the environments come to be.

define need_python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'InferLine needs Python 3.11 or newer, and "$(PYTHON)" is not: name one, as in make PYTHON=python3.12' >&2; \
		exit 1; }
endef

.tools/uv/bin/uv:
	$(need_python)
	@$(PYTHON) -m venv .tools/uv
	@.tools/uv/bin/python -m pip install --quiet 'uv>=0.9,<1'

%/bin/python: | $(UV)
	$(need_python)
	@$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $*

# `install` adds, so the demo leaves a developer's environment whole; `sync` also removes.
$(LOCAL): requirements/local.txt $(PROJECT) | .venv/bin/python
	@echo 'Installing what the demo needs into .venv'
	@$(UV) pip install --quiet --python .venv/bin/python --require-hashes -r $<
	@$(INSTALL_PROJECT)
	@touch $@

$(DEV): requirements/dev.txt $(PROJECT) | .venv/bin/python
	@echo 'Installing what work on InferLine needs into .venv'
	@$(UV) pip sync --quiet --python .venv/bin/python --require-hashes $<
	@$(INSTALL_PROJECT)
	@touch $@ $(LOCAL) $(INFRA)

$(INFRA): requirements/infra.txt $(PROJECT) | .venv/bin/python
	@echo 'Installing what a deployment needs into .venv'
	@$(UV) pip install --quiet --python .venv/bin/python --require-hashes -r $<
	@$(INSTALL_PROJECT)
	@touch $@

# Node and npm come as a Python package, so that nobody has to install them.
%/node_modules/.synced: %/package-lock.json | $(INFRA)
	@.venv/bin/python -m infra.node npm ci --prefix $* --no-audit --no-fund --ignore-scripts --silent
	@touch $@

.venv-%/.synced: requirements/%.txt | .venv-%/bin/python
	@echo 'Installing $< into .venv-$*'
	@$(UV) pip sync --quiet --python .venv-$*/bin/python --require-hashes $<
	@touch $@

$(NODE)/node_modules/.synced: $(NODE)/package-lock.json
	@npm ci --prefix $(NODE) --no-audit --no-fund --silent
	@touch $@
