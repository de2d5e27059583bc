# Shortcuts; the work is done by ./run.sh, ./test.sh and the tools named here.
PYTHON := .venv/bin/python

.PHONY: run test test-py312 e2e-all engine-all check format lock rules

run:
	./run.sh

test:
	./test.sh

test-py312:
	sh docker/py312.sh

e2e-all:
	./test.sh tests/e2e -m "slow_e2e or not slow_e2e"

engine-all:
	./test.sh tests/engine -m "not py312 and not gpu"

check:
	sh docker/setup.sh test
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy -p orchestrator -p launch
	.venv/bin/lint-imports --no-cache
	$(PYTHON) -m mypy --strict tests/typing

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lock:
	sh docker/lock.sh

rules:
	$(PYTHON) -m orchestrator.cli.rules_page docs/rules.md
