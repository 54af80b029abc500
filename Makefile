# Two commands: `make demo` and `make test`. Each makes .venv first, and again only when the pins have changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PINS := constraints.txt pyproject.toml
WHEEL := build/wheel

PYTHONS ?= python3.11 python3.12 python3.13

.PHONY: demo test versions faults finetune-kills cluster-test slow-test lint docs docs-generate docs-refresh wheel-test bench clean browser

demo: $(VENV)/.runtime
	$(BIN)/featcache demo

# Tests that have just run elsewhere can be left out: make test LEFT_OUT=--ignore=tests/end_to_end
test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(LEFT_OUT)

# The tests under every Python that is promised, each in an environment of its own (5 GB) that stays in build/. One that
# is not here is named, and none is run; a failing one does not stop the others.
versions:
	@missing=; for python in $(PYTHONS); do $$python -c '' 2>/dev/null || missing="$$missing $$python"; done; \
	test -z "$$missing" || { echo "not here:$$missing; name what there is: make versions PYTHONS='...'"; exit 1; }
	@failed=; for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "Python $$version ($$python)"; \
		$(MAKE) --no-print-directory test PYTHON=$$python VENV=build/venv-$$version || failed="$$failed $$version"; \
	done; test -z "$$failed" || { echo "failed under Python$$failed"; exit 1; }

# Every fault of tests/faults, with the long counts in full (`make test` runs a part of them); writes docs/faults.md.
faults: $(VENV)/.dev
	rm -rf build/faults
	FEATCACHE_FAULTS=all $(BIN)/python -m pytest -m fault --timeout 1800 tests

# SIGKILL at twenty random moments of a real training, in two ways of training; `make test` has two such kills.
finetune-kills: $(VENV)/.dev
	FEATCACHE_FAULTS=all $(BIN)/python -m pytest -q -s --timeout 1800 tests/finetuning/test_kills.py

# Three nodes of Ray on this machine: the same bytes as one process, whatever is killed. Some fifteen minutes.
cluster-test: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	$(BIN)/python -m pytest -q -s -m cluster tests/cluster

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy bench/*.py
	$(BIN)/mypy docs/*.py
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs

# The longest tests: every advised command pasted, networks whose rows take minutes, heads made again from their pages.
slow-test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m slow tests

# The documentation as a site; nothing is fetched.
docs: $(VENV)/.dev
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo "build/docs/index.html"

# What follows from declarations: the keywords of a recipe's settings, and what of the pages comes from the code itself
# (command line, recipe, public names, packages, decisions).
docs-generate: $(VENV)/.dev
	$(BIN)/python -m tests.recipe.write_keywords
	$(BIN)/python docs/generate.py

# The real output in README.md and docs/: some ten minutes on two cores, in a temporary folder.
docs-refresh: $(VENV)/.dev
	$(BIN)/python docs/refresh.py

# The end-to-end tests once more, against the wheel that a user would install: into the same environment, whose
# editable install comes back afterwards, however they end.
wheel-test: $(VENV)/.dev
	rm -rf $(WHEEL)
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEEL) .
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(WHEEL)/*.whl
	FEATCACHE_TEST_WHEEL=1 $(BIN)/pytest --numprocesses 2 --dist worksteal tests/end_to_end; ended=$$?; \
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --force-reinstall --editable . && exit $$ended

# The browser that the page's test drives: the system's own. Elsewhere than on Debian, or without root, the test says
# that it skips; under CI=true it must not.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || \
		echo "no Chromium, and none could be installed here: the browser test will say so"

bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python bench/commands.py
	$(BIN)/python bench/heads.py
	$(BIN)/python bench/forward.py
	$(BIN)/python bench/extract.py
	$(BIN)/python bench/video.py
	$(BIN)/python bench/near.py
	$(BIN)/python bench/store.py
	$(BIN)/python bench/classifiers.py
	$(BIN)/python bench/default.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "featcache needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(BIN)/python $(PINS)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
