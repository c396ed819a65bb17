# `make demo` and `make test` are all a newcomer needs: the first run creates .venv from constraints.txt.
# `make clean` leaves .venv alone; delete the folder to start over.

VENV := .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
    "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)
# One worker for each file: its fixtures are made once. In their order: the long ones come first.
PYTEST_ARGS ?= -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart=0
# Which tests by their markers: those that are slow for what they show run in .ci/run, those of acceptance on demand.
MARKS ?= not acceptance and not slow
# Nothing is compiled in advance: most of what is installed is never imported, and what is, Python compiles by itself.
PIP_INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

.PHONY: help demo test engines lint style types docs-check site picture dist imports bench goldens constraints clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.dev ## sample logs into ./demo_lake, then questions to it
	@scripts/demo

test: $(VENV)/.dev ## every test that is not slow; PYTEST_ARGS="-k waf" for some, MARKS="not acceptance" for all
	@$(VENV)/bin/python -m pytest -m "$(MARKS)" $(PYTEST_ARGS)

engines: $(VENV)/.engines ## Spark, polars and pandas (520 MB) for the tests that read a lake with them; Spark wants Java 17

lint: style types ## ruff, cfn-lint and mypy

style: $(VENV)/.dev
	@$(VENV)/bin/python -m ruff check .
	@$(VENV)/bin/cfn-lint deploy/aws/*.yaml

types: $(VENV)/.dev ## mypy --strict over the packages
	@$(VENV)/bin/python -m mypy

docs-check: $(VENV)/.dev ## links, commands and generated tables in the documentation
	@$(VENV)/bin/python scripts/docs_check

site: $(VENV)/.dev ## the documentation as a site in build/site, with reference pages made of the code
	@$(VENV)/bin/python scripts/site $(SITE_ARGS)

picture: $(VENV)/.dev ## the README's picture of a report, with Chromium
	@$(VENV)/bin/python scripts/picture

dist: $(VENV)/.dev ## wheel, sdist and a list of what an installation of the wheel consists of (CycloneDX) in dist/
	@$(VENV)/bin/python scripts/dist

imports: $(VENV)/.dev ## which room of the packages imports which
	@$(VENV)/bin/python -m scripts.imports

bench: $(VENV)/.bench ## what it costs: large and small objects, two processors, start-up, requests, ledger
	@$(VENV)/bin/python -m bench

goldens: $(VENV)/.dev ## rewrite what tests compare with, and the tables of sources; the review is `git diff`
	@$(VENV)/bin/python -m pytest tests/test_golden.py tests/test_versions.py tests/test_notebook.py --update-golden
	@$(VENV)/bin/python scripts/readme_sources

constraints: ## constraints.txt anew from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade --no-annotate \
	    --custom-compile-command "make constraints" --output-file constraints.txt pyproject.toml

clean: ## what building and running left behind
	rm -rf build dist demo_evidence demo_lake .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The environment: made once, and again when the requirements change or what the installation compiles.
COMPILED := hatch_build.py ocsf_mappers/readers/jsoncolumns.c
$(VENV)/.dev: pyproject.toml constraints.txt $(COMPILED) | $(VENV)/bin/python
	@echo "Installing ocsf-lake into $(VENV) ..." >&2
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@$(PIP_INSTALL) --editable '.[dev,bench]'
	@touch $@

# Beside what .dev has: where neither is there yet, one installation takes two thirds of the time of two.
$(VENV)/.engines: pyproject.toml constraints.txt $(COMPILED) | $(VENV)/bin/python
	@echo "Installing ocsf-lake, Spark, polars and pandas into $(VENV) ..." >&2
	@$(PIP_INSTALL) --editable '.[dev,engines]'
	@touch $(VENV)/.dev $@

# The newest pip: the one that Python brings may take twice as long to read what an index has.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "ocsf-lake needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
