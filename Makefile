# Needs only Python >= 3.11 and make. `make PYTHON=python3.12 ...` picks another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Changes when the dependencies do, so that an old environment is brought up to date.
STAMP = $(VENV)/.installed

.PHONY: install quickstart test test-slow fuzz coverage check format lint types layers docs

install: $(STAMP)

$(STAMP): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "segzoo needs Python >= 3.11; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV) (torch and its friends: a few GB, a few minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@# The oracle for Cityscapes' ids. The tests need none of the 18 packages that it would bring.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'cityscapesScripts>=2.2'
	@touch $(STAMP)

# Trains a small network on built-in synthetic scenes, then segments a folder of them.
quickstart: $(STAMP)
	@$(BIN)/python tools/quickstart.py

# A process for each core, at most four, of one thread each: threads of several processes would wait for one another.
# More threads, to see that no test depends on their number: make test PROCESSES=1 THREADS=2
PROCESSES ?= auto
THREADS ?= 1
PYTEST = OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -n $(PROCESSES) --maxprocesses 4

test: $(STAMP)
	@$(PYTEST)

test-slow: $(STAMP)
	@$(PYTEST) -m slow

# Configurations, command lines and damaged files that nobody would think of, for twenty minutes.
fuzz: $(STAMP)
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python tests/fuzz.py --minutes 20

# Lines and branches of segzoo that no test runs; without the test whose full disk would have no room for the count.
coverage: $(STAMP)
	@$(PYTEST) --cov --cov-report=term-missing:skip-covered \
		--deselect tests/training/test_faults.py::test_a_full_disk_leaves_the_checkpoint_as_it_was

# The documentation as a site, in build/docs.
docs: $(STAMP)
	@$(BIN)/python -m sphinx --fresh-env --quiet --fail-on-warning docs build/docs && echo "built: build/docs/index.html"

check: format lint types layers test

format: $(STAMP)
	@$(BIN)/ruff format --check .

lint: $(STAMP)
	@$(BIN)/ruff check .

types: $(STAMP)
	@$(BIN)/mypy

layers: $(STAMP)
	@$(BIN)/lint-imports
