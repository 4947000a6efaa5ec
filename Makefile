# What a developer types. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
PYTEST_ARGS ?=
PROVE_ARGS ?=
BENCH_ARGS ?=
# Tests wait for real servers more than they compute: one worker more than there are cores.
PYTEST = $(BIN)/pytest -n $$(($$(nproc 2>/dev/null || echo 2) + 1)) --dist loadfile
# What decides without reading, writing or waiting: every branch of it is tested.
PURE := executions/attempts.py,executions/batches.py,executions/document.py,$\
	executions/events.py,$\
	executions/identifiers.py,executions/patches.py,executions/simulation.py,$\
	executions/statuses.py,executions/values.py,executions/verification.py,$\
	executions/temporal/history/*,$\
	executions/temporal/live/descriptions.py,executions/temporal/live/precedence.py,$\
	executions/temporal/live/retries.py,$\
	streaming/close_codes.py,streaming/access/limits.py,streaming/schemas/visualization.py,$\
	streaming/start.py,streaming/tail.py,streaming/valkey/url.py,streaming/verification.py
LOCK_ARGS ?=
# Extras stay in the locks: where a dependency asks for coverage[toml], pip would otherwise
# take a newer coverage[toml] for one that is not pinned, as soon as there is one.
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-strip-extras \
	--no-annotate --no-header --no-emit-index-url --python-version 3.11 --extra embedded \
	--extra viewer $(LOCK_ARGS)

.DEFAULT_GOAL := help
.PHONY: help run test prove prove-mutants bench fuzz lint format lock clean environment \
	dev-environment bench-environment

help: ## list these commands
	@echo "Nexus. Commands:"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

run: environment ## start everything on this machine; Ctrl-C stops it (NEXUS_PORT, NEXUS_DATA_DIR)
	@exec $(PYTHON) manage.py up --until-parent-exits $$PPID

test: lint ## check everything that must hold, on SQLite and on PostgreSQL (PYTEST_ARGS="-k name")
	@$(BIN)/coverage erase
	@echo "pytest on SQLite"
	@NEXUS_TEST_DATABASE=sqlite $(PYTEST) --cov --cov-report= $(PYTEST_ARGS)
	@[ -n '$(PYTEST_ARGS)' ] || \
		$(BIN)/coverage report --skip-covered --include='$(PURE)' --fail-under=100
	@echo "pytest on PostgreSQL: the tests marked database, then the coverage of both"
	@NEXUS_TEST_DATABASE=postgresql $(PYTEST) -m database \
		--cov --cov-append --cov-report=term-missing:skip-covered $(PYTEST_ARGS) \
		|| $(if $(PYTEST_ARGS),[ $$? -eq 5 ],false)

prove: dev-environment ## break things under the product for minutes, judge what all saw (PROVE_ARGS="--seed 7")
	@exec $(PYTHON) -m tests.prove $(PROVE_ARGS)

prove-mutants: dev-environment ## break the product in each promise's heart, and see each break caught
	@exec $(PYTHON) -m tests.prove.mutations

bench: bench-environment ## measure Nexus beside its peers in ten minutes (BENCH_ARGS="fan_out latency", --list)
	@exec $(PYTHON) -m tests.benchmarks.side_by_side $(BENCH_ARGS)

fuzz: dev-environment ## try hostile input for long, with fresh seeds (TIMES=50 the examples of `make test`)
	@NEXUS_FUZZ_TIMES=$(or $(TIMES),50) $(PYTEST) -o timeout=0 $(PYTEST_ARGS) tests/fuzzing \
		tests/unit/streaming/test_any_*.py

lint: dev-environment ## check format, style, types and who may import whom
	@echo "ruff format, ruff check, mypy, lint-imports"
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: dev-environment ## format the code and mend what can be mended by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: dev-environment ## make the dependency locks anew from pyproject.toml (LOCK_ARGS=--upgrade)
	@$(COMPILE) pyproject.toml -o requirements.lock
	@$(COMPILE) --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	@$(COMPILE) --group bench -c requirements.lock -c requirements-dev.lock pyproject.toml \
		-o requirements-bench.lock

clean: ## remove the environment and what tools left; data in var/ stay
	@rm -rf $(VENV) build dist *.egg-info htmlcov .coverage .coverage.* .mypy_cache .ruff_cache \
		.pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment holds a copy of each lock that was installed into it.

environment: $(PYTHON)
	$(call install,requirements.lock,requirements.lock)

dev-environment: $(PYTHON)
	$(call install,requirements-dev.lock,requirements.lock requirements-dev.lock)

# What only benchmarks need comes on top, in the versions that go with the rest.
bench-environment: dev-environment
	$(call install,requirements-bench.lock,requirements-bench.lock)

# $(1) is installed; it covers the locks $(2). Without ensurepip the environment has no pip of
# its own, and the one that Python came with installs into it.
define install
	@cmp -s $(1) $(VENV)/$(1) && cmp -s requirements.lock $(VENV)/requirements.lock && exit 0; \
	set -e; began=$$(date +%s); \
	echo "Installing $$(grep -c '==' $(1)) packages into $(VENV); the first time this takes a minute"; \
	pip="$(PYTHON) -m pip"; \
	$$pip --version >/dev/null 2>&1 || pip="$$(cat $(VENV)/made-by) -m pip --python $(PYTHON)"; \
	$$pip install -qq --disable-pip-version-check --no-input --require-hashes -r $(1); \
	cp $(2) $(VENV)/; \
	echo "Installed in $$(($$(date +%s) - began)) s"
endef

$(PYTHON):
	@set -e; \
	for python in python3.11 python3 none; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break || :; \
	done; \
	if [ $$python = none ]; then \
		echo "Nexus needs Python 3.11 or newer, as python3.11 or python3 on the PATH." >&2; \
		echo "Found: $$(python3 --version 2>&1 || :)" >&2; \
		exit 1; \
	fi; \
	python=$$("$$python" -c 'import sys; print(sys.executable)'); \
	package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	echo "Creating $(VENV) with $$("$$python" --version)"; \
	if "$$python" -c 'import ensurepip' 2>/dev/null; then \
		"$$python" -m venv --clear $(VENV); \
	elif "$$python" -m pip --python "$$python" --version >/dev/null 2>&1; then \
		"$$python" -m venv --clear --without-pip $(VENV); \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing $$package, which brings pip into environments"; \
		apt-get install --yes -qq "$$package" >/dev/null || \
			{ apt-get update -qq && apt-get install --yes -qq "$$package" >/dev/null; }; \
		"$$python" -m venv --clear $(VENV); \
	else \
		echo "This Python can make no environment with pip: it has neither ensurepip nor pip" >&2; \
		echo "22.3 or newer. On Debian and Ubuntu: sudo apt-get install $$package" >&2; \
		exit 1; \
	fi; \
	echo "$$python" > $(VENV)/made-by
