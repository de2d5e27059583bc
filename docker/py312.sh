#!/bin/sh
# Passes the tests of the second pair, Python 3.12 and megatron-core 0.19.2. Arguments go to pytest.
#
# Makes its own environment, outside the checkout (LLMORCH_PY312, or the cache folder), the first
# time: torch first and alone, which is 0.2 GB where pip knows a CPU wheel and 5 GB with CUDA where
# not. PYTHON312 names an interpreter that is not found otherwise.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "py312: $*" >&2; }
venv=${LLMORCH_PY312:-${XDG_CACHE_HOME:-$HOME/.cache}/llmorch/py312}

python_312() {
    for candidate in ${PYTHON312:-} python3.12 "$HOME"/.pyenv/versions/3.12*/bin/python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

stamp=$venv/.ready-$(cat docker/locks/torch.txt docker/locks/py312.txt | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
    python=$(python_312)
    [ -n "$python" ] || { say "needs Python 3.12; name it in PYTHON312"; exit 6; }
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
    say "making $venv"
    "$venv/bin/python" -c 'import torch' 2>/dev/null || pip install -q -r docker/locks/torch.txt
    pip install -q -r docker/locks/torch.txt -r docker/locks/py312.txt
    rm -f "$venv"/.ready-*
    touch "$stamp"
fi
PYTHONPATH=$PWD exec "$venv/bin/python" -m pytest -m py312 \
    tests/engine/test_megatron_core_pair_two.py tests/engine/test_megatron_lm_parsers.py "$@"
