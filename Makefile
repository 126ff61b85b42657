# Everything here works on a fresh clone with Python 3.11 or later alone; it installs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export PYTHONUNBUFFERED = 1

.PHONY: help demo test kafka quick lint fix bench soak clean
help:  ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.11 or later is needed and $(PYTHON) is {sys.version.split()[0]}; say make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing stream_rnn into $(VENV) ..."
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing stream_rnn and what its tests need into $(VENV) (torch is large) ..."
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## learn a real sensor stream, live in the terminal
	$(BIN)/stream-rnn demo

test: $(VENV)/.dev  ## all that CI runs, but for lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

kafka: $(VENV)/.dev  ## the tests on a real Kafka broker, which pip brings along
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "kafka and not soak"

quick: $(VENV)/.dev  ## the part of the tests that takes under a minute
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not soak and not kafka"

lint: $(VENV)/.dev  ## ruff and the type checker; changes nothing
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(VENV)/.dev  ## what ruff can mend by itself
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## ratios against other libraries, measured in one run
	$(PIP) --editable '.[bench]'
	@test -x .venv-deep-river/bin/python || { $(PYTHON) -m venv .venv-deep-river && \
	  .venv-deep-river/bin/python -m pip install --quiet deep-river pytest; }  # pins older libraries than ours
	@test -x .venv-quix/bin/python || { $(PYTHON) -m venv .venv-quix && \
	  .venv-quix/bin/python -m pip install --quiet 'quixstreams>=3,<4'; }
	$(BIN)/python benchmarks/learner.py
	$(BIN)/python benchmarks/memory_per_key.py
	$(BIN)/python benchmarks/eval_rate.py
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/kafka_rate.py

soak: $(VENV)/.dev  ## the long forms: kills by the hundred, ten million events
	$(BIN)/python -m pytest -n 2 -m soak tests/recovery
	$(BIN)/python benchmarks/soak.py

clean:  ## forget the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache
