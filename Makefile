.PHONY: fast test lint bench docs serve

PYTHON ?= .venv/bin/python

fast:  ## the quick tests on SQLite
	STATEMANAGER_TEST_DATABASE=sqlite $(PYTHON) -m pytest -o addopts= -n 2 --dist loadfile -m fast -q

test:  ## all tests on SQLite and PostgreSQL
	$(PYTHON) -m pytest

lint:  ## format, lint, types, templates
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m djlint --lint templates

bench:  ## the engine's speed on both databases
	$(PYTHON) -m tests.benchmarks

docs:  ## the documentation as a site, in var/site
	$(PYTHON) -m mkdocs build --strict

serve:  ## the server with the admin
	$(PYTHON) manage.py up
