# Everything a developer or CI does. Each target does its own set-up: Python 3.11 and make are enough.

PYTHON ?= python3
LISTEN ?= 127.0.0.1:5000
ROOT ?= ./regserver-data
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .tools
# Tests that may run beside each other; the others want the machine to themselves.
LIGHT := not clients and not conformance and not slow
# What CI calls itself, or nothing. With it a test whose client or server is missing fails, whatever the reason.
export REGSERVER_CI

.DEFAULT_GOAL := help
.PHONY: help run check format test test-quick test-all conformance bench bench-quick bench-growth bench-guard bench-scale build docs clients clean

help: ## Show this list
	@echo "regserver: a container registry. make TARGET, one of:"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | while IFS='|' read -r name text; do \
		printf '  %-12s %s\n' "$$name" "$$text"; done

run: $(VENV)/.runtime ## Start a registry for development on LISTEN (127.0.0.1:5000), its data in ROOT (./regserver-data)
	$(BIN)/regserver serve --dev --root $(ROOT) --listen $(LISTEN)

check: $(VENV)/.dev ## Style, types, architecture and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

format: $(VENV)/.dev ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

test: $(VENV)/.dev ## Every test, with the real clients and the OCI conformance suite
	-$(BIN)/python tools/setup-clients
	$(BIN)/python -m pytest -n auto -m "$(LIGHT)"
	$(BIN)/python -m pytest -m "not ($(LIGHT))" --ignore=tests/console
	$(BIN)/python -m pytest tests/console # by itself: playwright keeps an event loop running in its thread
	CLIENT_WORKERS=2 $(BIN)/python -m pytest tests/clients/test_every_client.py

test-quick: $(VENV)/.dev ## The tests that need no client, no root, no PostgreSQL and no conformance suite
	$(BIN)/python -m pytest -n auto -m "$(LIGHT) and not postgres"

test-all: export CRASH_ROUNDS = 1000
test-all: export CRASH_POINTS = all
test-all: export SOAK_PUSHES = 100000
test-all: export RAW_ROUNDS = 100000
test-all: check test ## check and test, with 1,000 rounds of kill -9, a crash at every call and a soak of 100,000 pushes

conformance: $(VENV)/.dev $(TOOLS)/.conformance ## The OCI conformance suite, every version; writes conformance/README.md
	$(BIN)/python conformance/run.py --write

bench: $(VENV)/.dev ## regserver and other registries side by side, 20 minutes; writes benchmarks/RESULTS.md
	-$(BIN)/python tools/setup-clients --peers
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.dev ## The same in two minutes, smaller and once
	-$(BIN)/python tools/setup-clients --peers
	$(BIN)/python -m benchmarks --quick

bench-growth: $(VENV)/.dev ## The same with ever more repositories, tags and connections; writes benchmarks/GROWTH.md
	-$(BIN)/python tools/setup-clients --peers
	$(BIN)/python -m benchmarks.growing

bench-guard: $(VENV)/.dev ## Fails where regserver has lost ground to another registry since benchmarks/results.json
	-$(BIN)/python tools/setup-clients --peers
	$(BIN)/python -m benchmarks.guard

bench-scale: $(VENV)/.dev ## Every GET of /v1 on a large catalog; writes benchmarks/SCALE.md
	$(BIN)/python benchmarks/scale.py --write

build: $(VENV)/.runtime ## A wheel, and dist/regserver: the registry as one file
	$(BIN)/python tools/build.py

docs: $(VENV)/.dev ## The documentation as a site, in build/site; every link is checked
	$(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

clients: $(VENV)/.dev ## Install the real clients that the tests use
	$(BIN)/python tools/setup-clients

clean: ## Remove what was built and installed here; keeps your data
	rm -rf $(VENV) $(TOOLS) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.runtime: pyproject.toml
	PYTHON=$(PYTHON) tools/setup-venv $(VENV)
	@touch $@

$(VENV)/.dev: pyproject.toml
	PYTHON=$(PYTHON) tools/setup-venv $(VENV) dev
	@touch $@ $(VENV)/.runtime

$(TOOLS)/.conformance: tools/setup-clients $(VENV)/.dev
	$(BIN)/python tools/setup-clients conformance
	@touch $@
