# A fresh machine needs Python 3.11 or newer with venv, make and git. Everything else is installed from the locks,
# with hashes checked.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
UV := $(BIN)/uv --quiet
BENCH := bench/.venv

PROJECTS := . ./plugins/folder ./plugins/forgejo ./plugins/github ./plugins/gitlab ./plugins/jira
EDITABLE := $(foreach project,$(PROJECTS),--editable $(project))
DECLARED := $(wildcard setup.cfg $(addsuffix /pyproject.toml,$(PROJECTS)))
PACKAGES := pointsman pointsman_folder pointsman_forgejo pointsman_github pointsman_gitlab pointsman_jira

# Let Python store compiled modules, also where the environment disables it: a test run has many processes.
export PYTHONDONTWRITEBYTECODE :=

# Number of processes that run the tests, each with its own PostgreSQL server.
PROCESSES ?= 3
UNIT_TESTS := tests/unit $(wildcard plugins/*/tests/unit) plugins/bugsink-messaging/tests
UNIT_OPTIONS = -m 'not slow' --hypothesis-profile=unit
IN_TWO_PROCESSES = --no-print-directory --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) unit-content unit-others

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install dev demo run test test-unit test-integration test-faults unit unit-content unit-others conformance real faults faults-long simulate mutants bench lint lock image manifests clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMPS)/install ## Install the service, its plugins and an embedded PostgreSQL into .venv

dev: $(STAMPS)/dev ## Install the tools for tests and checks as well

demo: install ## Run the demo, which needs no setup (ONCE=1 ends by itself; ARGS=... is passed on)
	$(BIN)/pointsman demo $(if $(ONCE),--once) $(ARGS)

run: install ## Run the service with settings from the environment (ARGS=... is passed on)
	$(BIN)/pointsman serve $(ARGS)

test: dev ## All tests; the fault suites come last (PROCESSES=2; ARGS=... is passed on)
ifdef ARGS
	$(BIN)/pytest $(ARGS)
else
	@$(MAKE) --no-print-directory --keep-going test-unit test-integration test-faults
endif

test-unit:
	@$(MAKE) $(IN_TWO_PROCESSES) UNIT_OPTIONS=

test-integration:
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(UNIT_TESTS) tests/faults)

# The suites wait most of the time, so that two of them at once do not disturb each other.
test-faults:
	$(BIN)/pytest tests/faults -n 2 --dist loadfile

unit: dev ## The unit tests: no database, no server; property tests try a fifth of their examples
ifdef ARGS
	$(BIN)/pytest $(UNIT_OPTIONS) $(UNIT_TESTS) $(ARGS)
else
	@$(MAKE) $(IN_TWO_PROCESSES)
endif

# Half of the unit tests in each process: pytest-xdist takes longer to schedule a unit test than the test itself.
unit-content:
	@$(BIN)/pytest --quiet $(UNIT_OPTIONS) tests/unit/content

unit-others:
	@$(BIN)/pytest --quiet $(UNIT_OPTIONS) $(UNIT_TESTS) --ignore=tests/unit/content

conformance: dev ## The conformance suites of trackers and sources (ARGS=--pointsman-all-cells for every cell)
	$(BIN)/pytest plugins/*/tests/test_conformance.py tests/integration/sources/test_source_conformance.py -q $(ARGS)

real: dev ## Tests with real Bugsinks, old and new; make test runs the newest (BUGSINK_VERSIONS=2.6.2)
	BUGSINK_VERSIONS=$${BUGSINK_VERSIONS:-2.6.2,2.5.1,2.5.0,2.0.14} $(BIN)/pytest tests/real -s $(ARGS)

faults: dev ## The fault suites: kills, pauses, cut connections, restarts under load (FAULTS_SEED=n repeats one)
	$(BIN)/pytest tests/faults -s $(ARGS)

faults-long: dev ## The long form of the fault suites (FAULTS_MINUTES=60 limits the time)
	FAULTS_LONG=1 $(BIN)/pytest tests/faults -s $(ARGS)

bench: install $(BENCH)/.stamp ## Measure Pointsman and compare it with others (ARGS="--only intake --rounds 3", ARGS=--quick)
	$(BIN)/python bench/run.py $(ARGS)

simulate: dev ## Run simulated worlds with injected faults (SEEDS=10000; FIRST=seed)
	cd tests && ../$(BIN)/python -m simulation.run $(or $(SEEDS),1000) $(or $(FIRST),0)

mutants: dev ## Mutation tests of statements and modules (ARGS=--python, ARGS=--statements)
	cd tests && ../$(BIN)/python -m mutation $(ARGS)

lint: dev ## Check style, types and imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(addprefix --package ,$(PACKAGES))
	MYPYPATH=plugins/bugsink-messaging $(BIN)/mypy $(addprefix -m pointsman_bugsink_messaging.,signing trace body sending)
	$(BIN)/lint-imports --config setup.cfg

manifests: dev ## Render deploy/ and validate it against the oldest and newest known Kubernetes schemas
	$(BIN)/python deploy/render.py --check deploy/base $(wildcard deploy/overlays/*)

image: ## Build the image and start it once, with docker or, as root on Debian, without (TAG=..., SUITE=...)
	deploy/image.sh $(TAG)

clean: ## Remove everything that was installed and built, but no data
	rm -rf $(VENV) $(BENCH) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf $(wildcard *.egg-info plugins/*/*.egg-info plugins/*/build)

# Installation: a venv, uv from its lock, then everything else by uv. A changed lock installs again.

$(STAMPS)/venv: requirements-build.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), and Python 3.11 or newer is needed. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks venv. Install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Installing into $(VENV), once; a minute or so"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-build.lock
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/install: requirements-embedded.lock $(DECLARED) $(STAMPS)/venv
	@rm -f $(STAMPS)/dev
	@$(UV) pip sync --python $(BIN)/python --require-hashes requirements-build.lock requirements-embedded.lock
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation $(EDITABLE)
	@touch $@

$(STAMPS)/dev: requirements-dev.lock requirements-embedded.lock $(DECLARED) $(STAMPS)/venv
	@$(UV) pip sync --python $(BIN)/python --require-hashes requirements-build.lock requirements-dev.lock
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation $(EDITABLE)
	@touch $(STAMPS)/install $@

# The peers of the bench have their own environment, so that their packages do not affect the service.
$(BENCH)/.stamp: bench/requirements.lock $(STAMPS)/venv
	@$(PYTHON) -m venv --clear --without-pip $(BENCH)
	@$(UV) pip sync --python $(BENCH)/bin/python --require-hashes bench/requirements.lock
	@touch $@

# Locks contain names, versions and hashes, but no host and no path. A pin stays until UPGRADE=1. The projects themselves are
# passed as folders and left out of the locks, so that their names are never looked up on an index.

COMPILE := env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
	$(UV) pip compile --no-config --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	$(foreach package,$(PACKAGES),--no-emit-package $(subst _,-,$(package))) $(if $(UPGRADE),--upgrade)
MEMBERS := $(foreach project,$(wordlist 2,9,$(PROJECTS)),'-e $(project)')

lock: $(STAMPS)/venv ## Create the locks from the pyproject files (UPGRADE=1: with the newest versions)
	printf '%s\n' '-e .' $(MEMBERS) | $(COMPILE) - --output-file requirements.lock >/dev/null
	printf '%s\n' '-e .[embedded]' $(MEMBERS) | $(COMPILE) - --constraint requirements.lock --output-file requirements-embedded.lock >/dev/null
	printf '%s\n' '-e .[embedded,dev]' $(MEMBERS) | $(COMPILE) - --constraint requirements-embedded.lock --output-file requirements-dev.lock >/dev/null
	printf '%s\n' 'uv==0.13.9' setuptools | $(COMPILE) - --constraint requirements-dev.lock --output-file requirements-build.lock >/dev/null
	$(COMPILE) bench/requirements.in --constraint requirements-dev.lock --output-file bench/requirements.lock >/dev/null
