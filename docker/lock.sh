#!/bin/sh
# Rewrites docker/locks/*.txt from the ranges in pyproject.toml. Usage: sh docker/lock.sh
#
# Resolves with pip in throw-away environments, torch first, so that a CPU wheel stays one, and with
# what DeepSpeed's source is built with. DeepSpeed itself has a lock of its own: see setup.sh.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ranges() {
    python3 - "$1" <<'PY'
import sys, tomllib
document = tomllib.load(open("pyproject.toml", "rb"))
wanted = list(document["project"]["dependencies"])
wanted += document["project"]["optional-dependencies"]["train"]
wanted += document["build-system"]["requires"] + ["editables", "setuptools", "wheel"]
if sys.argv[1] == "test":
    wanted += document["project"]["optional-dependencies"]["fast"]
    wanted += document["project"]["optional-dependencies"]["metrics"]  # read back by a test
    wanted += document["project"]["optional-dependencies"]["data"]
    wanted += document["dependency-groups"]["test"] + document["dependency-groups"]["check"]
print("\n".join(wanted))
PY
}

for what in run test; do
    python3 -m venv "$work/$what"
    "$work/$what/bin/pip" install -q -r docker/locks/torch.txt
    ranges "$what" >"$work/$what.in"
    grep -i -E '^(hatchling|editables|setuptools|wheel)' "$work/$what.in" >"$work/$what.build"
    "$work/$what/bin/pip" install -q -r "$work/$what.build"
    DS_BUILD_OPS=0 "$work/$what/bin/pip" install -q --no-build-isolation \
        -r docker/locks/torch.txt -r "$work/$what.in"
    {
        echo "# Made by docker/lock.sh from pyproject.toml; do not edit. torch is in torch.txt."
        "$work/$what/bin/pip" freeze --all | grep -v -i -E '^(torch|deepspeed|pip)(==| @)'
    } >"docker/locks/$what.txt"
    {
        echo "# Made by docker/lock.sh from pyproject.toml; do not edit. Built without isolation."
        grep -i '^deepspeed==' "$work/$what.in"
    } >docker/locks/deepspeed.txt
done
