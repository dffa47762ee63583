# One command each: demo, test, check. They make a virtual environment in .venv and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 2000
ARGS ?=

.PHONY: help demo demo-faults test check format simulate bench protos clean

help:
	@echo "make demo         two runs of Post-Notification: without and with Rendezvous (ARGS='--posts 200 --plot p.png')"
	@echo "make demo-faults  the same while sidecars, server and writer are killed"
	@echo "make test         all tests                 make check     format, lint, types, import contracts"
	@echo "make simulate     SEEDS=20000 ARGS='--first 100000'    make bench     overhead and server figures"

$(BIN)/.demo: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -U 'pip>=25.1'
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo]'
	@touch $@

$(BIN)/.dev: $(BIN)/.demo pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[demo]' --group dev
	@touch $@

demo: $(BIN)/.demo
	$(BIN)/rendezvous demo $(ARGS)

demo-faults: $(BIN)/.demo
	$(BIN)/rendezvous demo --faults $(ARGS)

test: $(BIN)/.dev
	$(BIN)/python -m pytest $(ARGS)

check: $(BIN)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports

format: $(BIN)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

simulate: $(BIN)/.dev
	$(BIN)/python -m rendezvous_testing.simulation --seeds $(SEEDS) $(ARGS)

bench: $(BIN)/.dev
	$(BIN)/python bench/overhead.py
	$(BIN)/python bench/server.py

protos: $(BIN)/.dev
	$(BIN)/python -m grpc_tools.protoc -I server --python_out=server --mypy_out=server \
		--grpc_python_out=server --mypy_grpc_out=server server/rendezvous_api/v1/rendezvous.proto

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
