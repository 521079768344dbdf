PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN = $(BIN)/ebmctl

.PHONY: demo test lint docs reference bench mutants quality clean

# Train on real digits for about four minutes, then draw samples and the chains that led to them.
demo: $(VENV)/demo.stamp
	@set -e; \
	run=$$($(RUN) train digits --time 230s --json | $(BIN)/python -c 'import json, sys; print(json.load(sys.stdin)["run"])'); \
	$(RUN) sample "$$run" -n 64 -o "$$run/samples.png" --chain "$$run/chain.gif"; \
	echo; \
	echo "the run folder:  $$run"; \
	echo "64 samples:      $$run/samples.png"; \
	echo "their chains:    $$run/chain.gif"

test: $(VENV)/test.stamp lint docs
	$(BIN)/python -m pytest -n 2 -q

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/test.stamp
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

# What of docs/*.md comes from the program: the reference, and tables and signatures in other pages.
reference: $(VENV)/test.stamp
	$(BIN)/python -m docs.generate

bench: $(VENV)/test.stamp
	$(BIN)/python -m bench

# One-line faults, each of which some test must catch: minutes, and no part of `make test`.
mutants: $(VENV)/test.stamp
	$(BIN)/python -m tests.mutants

# Figures of a trained digits model: make quality MODEL=runs/00000-digits
quality: $(VENV)/test.stamp
	$(BIN)/python -m bench.quality $(MODEL)

$(VENV)/demo.stamp: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[digits]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev,docs]'
	@touch $@ $(VENV)/demo.stamp

clean:
	rm -rf $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
