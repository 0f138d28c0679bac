# Everything runs in .venv, which the first target makes: only Python >= 3.11, git and make are needed.
PYTHON ?= python3
OUT ?= out
SEEDS ?= 3

BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint bench docs clean

demo: $(READY)  ## The main job on simulated data: prints a table and where the report and its figures are
	$(BIN)/latentcause demo

test: lint  ## Everything a change has to pass
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)  ## The measured figures with a few seeds; see the README for the full runs
	mkdir -p $(OUT)
	$(BIN)/python benchmarks/eb_crl.py --seeds $(SEEDS) --json $(OUT)/eb_crl.json

docs: $(READY)  ## The documentation, its examples executed, in docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf .venv $(OUT) dist build docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis

# One call installs everything: pip then holds torch to the version in constraints.txt for whatever depends on it.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "latentcause needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making the environment in .venv; the first time this downloads torch and takes a few minutes."
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,cell,discovery,geo,docs]"
	touch $@
