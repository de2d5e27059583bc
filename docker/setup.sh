#!/bin/sh
# Makes .venv from the lock files. Usage: sh docker/setup.sh run|test
#
# Does nothing when .venv already fits the locks. Installs missing Debian packages when root,
# else prints the one line that would.
set -eu
cd "$(dirname "$0")/.."

what=${1:?usage: sh docker/setup.sh run|test}
say() { printf '%s\n' "setup: $*" >&2; }

python_311() {
    for candidate in ${PYTHON:-} python3.11 python3 /usr/bin/python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

need_packages() {
    say "needs Debian packages: $*"
    if [ "$(id -u)" != 0 ]; then
        say "run this, then try again:  sudo apt-get install -y $*"
        exit 6
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Real hosts for tests/e2e: namespaces need root, so nobody else is asked for them. A server that is
# installed must not start to serve: `policy-rc.d` says so where it is not there already.
need_hosts() {
    for tool in sshd ssh ssh-keygen ip nft; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$tool" >/dev/null 2>&1 || missing=yes
    done
    [ "${missing:-no}" = yes ] || return 0
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    need_packages openssh-server openssh-client iproute2 nftables
}

[ "$what" != test ] || [ "$(id -u)" != 0 ] || need_hosts
python=$(python_311)
if [ -z "$python" ]; then
    need_packages python3 python3-venv
    python=$(python_311)
    [ -n "$python" ] || { say "Python 3.11 is needed (Debian 12's python3); set PYTHON to it"; exit 6; }
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv

locks="docker/locks/torch.txt docker/locks/deepspeed.txt docker/locks/$what.txt"
# shellcheck disable=SC2086  three paths without spaces
stamp=$(cat pyproject.toml $locks | sha256sum | cut -c1-16)
if [ -e ".venv/.ready-$what-$stamp" ] && .venv/bin/python -c 'import orchestrator' 2>/dev/null; then
    exit 0
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

# torch first and alone: a CPU wheel is about 0.2 GB (1 GB installed), the CUDA build that a plain
# index serves about 5 GB with its libraries. pip's own configuration decides: a CPU index or
# a folder of wheels named in pip.conf, PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS is honoured.
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    say "installing torch (0.2 GB where pip knows a CPU wheel, about 5 GB with CUDA where not)"
    pip install -q -r docker/locks/torch.txt
fi
say "installing docker/locks/$what.txt"
pip install -q -r docker/locks/torch.txt -r "docker/locks/$what.txt"
# DeepSpeed comes as source and asks the installed torch how to build: no isolation, no operators.
DS_BUILD_OPS=0
export DS_BUILD_OPS
pip install -q --no-deps --no-build-isolation -r docker/locks/deepspeed.txt
pip install -q --no-deps --no-build-isolation -e .
pip check >&2 || { say "the installed packages do not fit together"; exit 1; }
rm -f .venv/.ready-"$what"-*
touch ".venv/.ready-$what-$stamp"
