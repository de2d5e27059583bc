#!/bin/sh
# Passes the tests; arguments go to pytest: ./test.sh tests/unit -k journal
set -eu
cd "$(dirname "$0")"
sh docker/setup.sh test
exec .venv/bin/python -m pytest "$@"
