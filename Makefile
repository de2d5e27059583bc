# Shortcuts; the work is done by ./run.sh, ./test.sh and the tools named here.
PYTHON := .venv/bin/python

.PHONY: run test check format lock

run:
	./run.sh

test:
	./test.sh

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
