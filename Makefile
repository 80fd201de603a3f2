PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup test lint demo team-demo bench soak docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	touch $@

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not soak'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: setup
	$(BIN)/python examples/demo.py

team-demo: setup
	$(BIN)/python examples/team_demo.py

bench: setup
	$(BIN)/python -m benchmarks

soak: setup
	$(BIN)/python -m pytest -m soak

# What the program generates, written anew: docs/cli.md and completions/.
docs: setup
	$(BIN)/python -m svcctl.cli.reference docs/cli.md
	for shell in bash zsh fish; do $(BIN)/svcctl completion $$shell > completions/svcctl.$$shell; done

clean:
	rm -rf $(VENV) build dist
