# Needs only Python 3.11 or newer; `make PYTHON=python3.12 test` picks one.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test lint clean

help:
	@echo "make demo   train MMGRec on MovieLens-100K and show what it recommends"
	@echo "make test   run the tests"
	@echo "make lint   check style (ruff) and types (pyright)"
	@echo "make clean  remove the environment, downloaded data and runs"
	@echo "Each creates the environment .venv first if it is missing."

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "mmgrec_jax needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	touch $@

data/ml100k/meta.json: | .venv/ready
	$(BIN)/python -m mmgrec_jax.data.ml100k --out=data/ml100k

demo: .venv/ready data/ml100k/meta.json
	$(BIN)/python -m mmgrec_jax.main --config=configs/ml100k.py

test: .venv/ready
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 \
	  --dist=loadfile --no-loadscope-reorder

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf .venv data runs
