# Everything is used from this checkout; the virtual environments lie in a cache directory, named
# after the pinned requirements that they were built from, and are built when they are missing.

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PYTHONPATH := $(CURDIR)
export PYTHONUNBUFFERED := 1

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/clickpath
SUM = $(firstword $(shell cat $(1) requirements/build-venv | { sha256sum 2>/dev/null || shasum -a 256; }))
venv = $(CACHE)/venv-$(basename $(notdir $(1)))-$(shell echo $(call SUM,$(1)) | cut -c1-12)

DEMO_VENV := $(call venv,requirements/demo.txt)
TEST_VENV := $(call venv,requirements/test.txt)
CHART_VENV := $(call venv,requirements/chart.txt)
WORKER_VENV := $(call venv,requirements/worker.txt)
TRAINER_VENV := $(call venv,requirements/trainer.txt)
CHART_NODE := $(CACHE)/node-$(shell sha256sum tests/deploy/custom_resources/package-lock.json | cut -c1-12)
DOCS_VENV := $(call venv,requirements/docs.txt)
QUIX_VENV := $(call venv,benchmarks/peers/quix.txt)
BYTEWAX_VENV := $(call venv,benchmarks/peers/bytewax.txt)

# Arguments for the command behind a target: make demo ARGS="--events 5000 --json"
ARGS ?=

# Processes that run the tests: half of a test's time is waiting. A file's tests stay together, in
# their order; with 0 they run in this process, and what they print is shown with ARGS=-s.
JOBS ?= 3

# Where make docs reads and writes.
DOCS ?= mkdocs.yml
SITE ?= site

# How long make soak runs, from which seed on (a seed is two shops), with what states kept in.
MINUTES ?= 20
SEED ?= 1
STORE ?=

# What make chaos does: MODE at-least-once or transactional, BROKER apache-kafka or embedded.
KILLS ?= 10
MODE ?= at-least-once
BROKER ?= apache-kafka

.PHONY: help demo test check chaos triton-chaos soak format bench bench-peers train reference lock clean \
	docs chart-check compose-check chart-tools chart-types sbom worker-packages

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "make %-12s %s\n", $$1, $$2}'

demo: $(DEMO_VENV)/.complete ## run the main job: broker, worker, simulated shoppers, a summary
	@$(DEMO_VENV)/bin/python -m clickpath demo $(ARGS)

test: $(TEST_VENV)/.complete ## run all tests
	@echo "==> running the tests"
	@$(TEST_VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(TEST_VENV)/.complete ## lint, formatting, types and import directions
	@echo "==> ruff"
	@$(TEST_VENV)/bin/ruff check .
	@$(TEST_VENV)/bin/ruff format --check .
	@echo "==> mypy"
	@$(TEST_VENV)/bin/mypy
	@echo "==> import contracts"
	@$(TEST_VENV)/bin/lint-imports

chaos: $(TEST_VENV)/.complete ## kill workers under load and compare (KILLS, MODE, BROKER)
	@$(TEST_VENV)/bin/python -m tests.kafka.chaos --kills $(KILLS) --mode $(MODE) --broker $(BROKER) $(ARGS)

triton-chaos: $(TEST_VENV)/.complete
	@$(TEST_VENV)/bin/python -m tests.serving.triton_chaos $(ARGS)

soak: BROKER = embedded
soak: $(TEST_VENV)/.complete
	@$(TEST_VENV)/bin/python -m tests.promises.soak --minutes $(MINUTES) --seed $(SEED) --mode $(MODE) \
		--broker $(BROKER) $(if $(STORE),--store $(STORE)) $(ARGS)

format: $(TEST_VENV)/.complete ## format the code and mend what the linter can
	@$(TEST_VENV)/bin/ruff check --fix .
	@$(TEST_VENV)/bin/ruff format .

bench: $(DEMO_VENV)/.complete $(TEST_VENV)/.complete ## events per second beside plain Faust, paths per second of models
	@$(DEMO_VENV)/bin/python -m benchmarks.run --models $(TEST_VENV)/bin/python $(ARGS)

bench-peers: $(DEMO_VENV)/.complete $(QUIX_VENV)/.complete $(BYTEWAX_VENV)/.complete ## the same beside Quix Streams and Bytewax
	@$(DEMO_VENV)/bin/python -m benchmarks.peers.run --quix $(QUIX_VENV)/bin/python --bytewax $(BYTEWAX_VENV)/bin/python $(ARGS)

train: $(TEST_VENV)/.complete ## train, evaluate and export a model
	@$(TEST_VENV)/bin/python -m clickpath train $(ARGS)

docs: $(DOCS_VENV)/.complete ## build the documentation into site/; a dead link fails
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --config-file $(DOCS) --site-dir $(abspath $(SITE))
	@$(DOCS_VENV)/bin/python docs/.site/check_site.py $(SITE)
	@echo "==> $(SITE)/index.html"

# Writes the pages and schemas of docs/ and of the chart that come from the code.
reference: $(TEST_VENV)/.complete
	@$(TEST_VENV)/bin/python -m stream.reference
	@$(TEST_VENV)/bin/python -m helm.describe

# Renders the Helm chart and holds it against every schema; see tests/README.md.
chart-check: $(TEST_VENV)/.complete chart-tools
	@$(TEST_VENV)/bin/python -m pytest -m chart tests/deploy $(ARGS)

# The same for docker-compose.yml and the Dockerfile.
compose-check: $(TEST_VENV)/.complete chart-tools
	@$(TEST_VENV)/bin/python -m pytest -m compose tests/deploy $(ARGS)

# What is in the images worker and trainer, as CycloneDX in build/sbom.
sbom: chart-tools $(WORKER_VENV)/.complete $(TRAINER_VENV)/.complete
	@$(CHART_VENV)/bin/python requirements/sbom requirements/worker.txt $(WORKER_VENV) build/sbom/worker.cdx.json
	@$(CHART_VENV)/bin/python requirements/sbom requirements/trainer.txt $(TRAINER_VENV) build/sbom/trainer.cdx.json

# The packages of the image worker, and nothing else; prints where they are.
worker-packages: $(WORKER_VENV)/.complete
	@echo $(WORKER_VENV)/bin

# Prints where helm, hadolint and the like are, and puts them there first.
chart-tools: $(CHART_VENV)/bin/helm
	@echo $(CHART_VENV)/bin

# The same for the types of custom resources; needs npm.
chart-types: $(CHART_NODE)/.complete
	@echo $(CHART_NODE)

lock: $(TEST_VENV)/.complete ## resolve the pinned requirements anew (ARGS=--upgrade)
	@PATH="$(TEST_VENV)/bin:$$PATH" requirements/lock $(ARGS)

clean: ## remove the virtual environments and the tools' caches
	rm -rf $(CACHE)/venv-* $(CACHE)/node-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(DEMO_VENV)/.complete:
	@requirements/build-venv $(DEMO_VENV) requirements/demo.txt

$(TEST_VENV)/.complete:
	@echo "==> the test environment holds torch: about 5 GB, a few minutes the first time"
	@requirements/build-venv $(TEST_VENV) requirements/test.txt

$(WORKER_VENV)/.complete:
	@requirements/build-venv $(WORKER_VENV) requirements/worker.txt >&2

$(TRAINER_VENV)/.complete:
	@requirements/build-venv $(TRAINER_VENV) requirements/trainer.txt >&2

$(CHART_VENV)/.complete:
	@requirements/build-venv $(CHART_VENV) requirements/chart.txt >&2

$(CHART_VENV)/bin/helm: $(CHART_VENV)/.complete
	@$(CHART_VENV)/bin/python requirements/unpack-helm

$(CHART_NODE)/.complete:
	@mkdir -p $(@D) && cp tests/deploy/custom_resources/package*.json $(@D)
	@cd $(@D) && npm ci --no-audit --no-fund --loglevel=error >&2
	@touch $@

$(DOCS_VENV)/.complete:
	@requirements/build-venv $(DOCS_VENV) requirements/docs.txt

$(QUIX_VENV)/.complete:
	@requirements/build-venv $(QUIX_VENV) benchmarks/peers/quix.txt

$(BYTEWAX_VENV)/.complete:
	@requirements/build-venv $(BYTEWAX_VENV) benchmarks/peers/bytewax.txt
