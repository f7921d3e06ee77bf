# `make` alone lists the targets; docs/running.md describes them.
PYTHON_RUN = .venv/bin/python
LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
# Processes of the tests. Many tests wait more than they compute, so there are twice as many as cores.
# WORKERS=0 runs them in one process, which is quicker for a few tests and needed for a debugger.
CORES := $(shell getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell expr 2 '*' $(CORES))
TEST = $(PYTHON_RUN) -m pytest -n $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help up demo check test test-long test-postgres test-airflow2 test-airflow-fab test-airflow test-python fuzz coverage chaos attack bench bench-data load bench-live bench-latency lint types contracts js schema audit lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## start everything and stay in the foreground (V=1 shows the output of each process); Ctrl-C stops it
	@scripts/setup
	@exec $(PYTHON_RUN) -m runner up $(if $(V),--verbose)

demo: ## start the platform, run a workflow, show its live events, stop everything
	@scripts/setup
	@exec $(PYTHON_RUN) -m runner demo $(if $(V),--verbose)

check: lint types contracts js ## lint, types, import contracts, JavaScript, and the tests that need no servers: under 90 s
	@# These compute all the time: more processes than cores would only cost their start.
	@exec $(PYTHON_RUN) -m pytest -q -n $(CORES) -m "not servers" rest accounts workflows notifications $(ARGS)

test: ## run the whole test suite on SQLite (ARGS="-k name" narrows it, WORKERS=0 runs it in one process)
	@scripts/setup --dev
	@exec $(TEST) $(ARGS)

test-long: ## run the whole suite and kill processes at many more steps; takes minutes longer
	@scripts/setup --dev
	@exec $(TEST) --long --timeout 0 $(ARGS)

test-postgres: ## run the suite on a private PostgreSQL; its server binaries have to be installed
	@scripts/setup --dev
	@# The runner sets the variable for itself; with it pytest-django would read the settings before conftest.py.
	@SVOPS_HOME=.svops/postgres-tests exec $(PYTHON_RUN) -m runner with postgres -- \
		env -u DJANGO_SETTINGS_MODULE $(TEST) $(ARGS)

test-airflow2: ## run the tests that need a real Airflow on 2.11 (needs Python 3.11 or 3.12)
	@scripts/setup --airflow2
	@SVOPS_TEST_AIRFLOW=2 exec $(PYTHON_RUN) -m pytest -n 2 -m airflow workflows dags tests/doctor tests/airflows $(ARGS)

test-airflow-fab: ## run the tests of Airflow's rights on Airflow 3 with the FAB auth manager
	@scripts/setup --airflow-fab
	@SVOPS_TEST_AIRFLOW=fab exec $(PYTHON_RUN) -m pytest -n 0 -m airflow tests/doctor/test_real_rights.py $(ARGS)

test-airflow: ## run the tests that need a real Airflow on any version (VERSION=3.1.8)
	@scripts/setup --airflow $(or $(VERSION),3.3.2)
	@SVOPS_TEST_AIRFLOW=$(or $(VERSION),3.3.2) exec $(PYTHON_RUN) -m pytest -n 2 -m airflow workflows dags tests/doctor tests/airflows $(ARGS)

test-python: ## run on another Python what needs no Airflow and no browser (VERSION=3.13)
	@scripts/setup --python $(or $(VERSION),3.13)
	@.venv-$(or $(VERSION),3.13)/bin/python manage.py check
	@exec .venv-$(or $(VERSION),3.13)/bin/python -m pytest -n $(WORKERS) -m "not airflow" $(or $(TESTS),rest accounts workflows notifications) $(ARGS)

fuzz: ## send every operation of the API many unexpected requests (EXAMPLES=200 for each)
	@scripts/setup --dev
	@SVOPS_FUZZ_EXAMPLES=$(or $(EXAMPLES),200) exec $(PYTHON_RUN) -m pytest tests/access/test_fuzz.py --timeout 0 $(ARGS)

coverage: ## run the whole suite and print which lines and branches it covers
	@scripts/setup --dev
	@exec $(TEST) --cov --cov-report=term:skip-covered $(ARGS)

chaos: ## kill, freeze and cut off every part under seeded clients, then compare with Airflow (ARGS="--minutes 5 --seed 1")
	@scripts/setup --dev
	@exec $(PYTHON_RUN) -m tests.chaos $(ARGS)

attack: ## every attack, and what others feel of each flood, against a web process on this machine (ARGS="-k readiness")
	@scripts/setup --dev
	@exec $(PYTHON_RUN) -m pytest -q -p tests.attack.table -o python_files="test_*.py check_costs.py check_neighbours.py" \
		tests/attack --timeout 0 $(ARGS)

bench: ## what each kind of work costs beside its peer, in about ten minutes (ARGS="--quick": two; "--counts": the gate)
	@scripts/setup --dev
	@exec $(PYTHON_RUN) -m benchmarks.table $(ARGS)

bench-data: ## load the millions of rows that `make bench` then uses, into /var/tmp/svops-bench (ARGS="--runs 5000000")
	@scripts/setup --dev
	@exec $(PYTHON_RUN) -m benchmarks.table --load $(ARGS)

load: ## 200 triggers a second for two minutes while 1,000 sockets watch; fails if anything is late (ARGS=--quick)
	@scripts/setup --dev
	@exec $(PYTHON_RUN) -m benchmarks.load $(ARGS)

bench-live: ## live streams of SVOps beside other servers, in one run (ARGS="--quick" for a look)
	@scripts/setup --dev
	@exec $(PYTHON_RUN) -m benchmarks.live $(ARGS)

bench-latency: ## from a change of state in Airflow to a client's frame, hop by hop
	@scripts/setup --dev
	@exec $(PYTHON_RUN) -m benchmarks.latency $(ARGS)

lint: ## ruff: rules and format
	@scripts/setup --dev
	@$(PYTHON_RUN) -m ruff check . && $(PYTHON_RUN) -m ruff format --check .

types: ## mypy --strict
	@scripts/setup --dev
	@exec $(PYTHON_RUN) -m mypy .

contracts: ## who may import whom
	@scripts/setup --dev
	@PYTHONPATH=clients/python/src exec .venv/bin/lint-imports

js: ## JavaScript: Biome, types, unit tests (needs node and npm)
	@exec scripts/check-js

schema: ## the descriptions of the API: linter, generated clients, nothing broken in silence (ARGS=--write promises the new one)
	@scripts/setup --dev
	@exec scripts/check-schema $(ARGS)

audit: ## known vulnerabilities of what is deployed (asks PyPI's advisories)
	@scripts/setup --dev
	@exec scripts/audit

lock: ## compile the requirements files from pyproject.toml and requirements-airflow.in (needs uv)
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --all-extras --constraint requirements.txt -o requirements-ways.txt
	$(LOCK) pyproject.toml --group runner -o requirements-runner.txt
	$(LOCK) pyproject.toml --all-extras --group dev -o requirements-dev.txt
	$(LOCK) requirements-airflow.in -o requirements-airflow.txt
	$(LOCK) requirements-airflow-fab.in -o requirements-airflow-fab.txt
	$(LOCK) requirements-airflow2.in -o requirements-airflow2.txt

clean: ## remove the environments, all state and all caches
	rm -rf .venv .venv-* .svops .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
