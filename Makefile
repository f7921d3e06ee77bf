# `make` alone lists what there is; docs/running.md tells more.
PYTHON_RUN = .venv/bin/python
LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.DEFAULT_GOAL := help
.PHONY: help up demo test test-postgres test-airflow2 fuzz bench-live bench-latency lint types audit lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## start everything and stay in the foreground (V=1 shows what each process says); Ctrl-C stops it
	@scripts/setup
	@exec $(PYTHON_RUN) -m svops.local up $(if $(V),--verbose)

demo: ## start the platform, run a workflow, show its live events, stop everything
	@scripts/setup
	@exec $(PYTHON_RUN) -m svops.local demo $(if $(V),--verbose)

test: ## run the whole test suite on SQLite (ARGS="-k name" narrows it)
	@scripts/setup --dev
	@exec $(PYTHON_RUN) -m pytest $(ARGS)

test-postgres: ## the same on a private PostgreSQL, whose binaries have to be installed
	@scripts/setup --dev
	@# svops.local sets the variable for itself; with it pytest-django would read the settings before conftest.py.
	@SVOPS_HOME=.svops/postgres-tests exec $(PYTHON_RUN) -m svops.local with postgres -- \
		env -u DJANGO_SETTINGS_MODULE $(PYTHON_RUN) -m pytest $(ARGS)

test-airflow2: ## those that ask a real Airflow, against 2.11 (needs Python 3.11 or 3.12)
	@scripts/setup --airflow2
	@SVOPS_TEST_AIRFLOW=2 exec $(PYTHON_RUN) -m pytest -m airflow workflows dags $(ARGS)

fuzz: ## ask every operation of the API many things that nobody thought of (EXAMPLES=200 for each)
	@scripts/setup --dev
	@SVOPS_FUZZ_EXAMPLES=$(or $(EXAMPLES),200) exec $(PYTHON_RUN) -m pytest tests/access/test_fuzz.py --timeout 0 $(ARGS)

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

audit: ## known vulnerabilities of what is deployed (asks PyPI's advisories)
	@scripts/setup --dev
	@exec scripts/audit

lock: ## compile the requirements files from pyproject.toml and requirements-airflow.in (needs uv)
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --group dev -o requirements-dev.txt
	$(LOCK) requirements-airflow.in -o requirements-airflow.txt
	$(LOCK) requirements-airflow2.in -o requirements-airflow2.txt

clean: ## remove the environments, all state and all caches
	rm -rf .venv .venv-airflow .venv-airflow2 .svops .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
