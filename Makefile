# `make demo` and `make test` do all the set-up on a fresh machine, in a virtual environment of their own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# the tests start many processes; where no bytecode is kept, each compiles its packages anew, for up to 8 s
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all check notebooks microworld clean

demo: $(VENV)/.local  ## benchmark the embedded models offline; makes demo.html
	$(BIN)/llmlab run --models micro/small,micro/base \
		--benchmarks micro/truthfulqa,micro/gsm8k,micro/mmlu,micro/arc,micro/hellaswag \
		-n 100 --store sqlite:///demo.db --report demo.html

test: $(VENV)/.dev  ## every test but the slow ones
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

test-all: $(VENV)/.dev  ## every test
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.dev  ## what a commit must pass
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

notebooks: $(VENV)/.dev  ## run every notebook in place, from top to bottom
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb

microworld: $(VENV)/.dev  ## make the embedded rows and models again (hours on a CPU)
	$(BIN)/python -m llmlab.microworld data --out data
	$(BIN)/python -m llmlab.microworld train --out checkpoints

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache demo.html demo.db demo.db-wal demo.db-shm

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.local: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[local]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.local
