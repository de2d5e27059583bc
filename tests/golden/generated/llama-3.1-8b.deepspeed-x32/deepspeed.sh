#!/bin/bash
# Starts the ranks of all hosts from this one with DeepSpeed's launcher over pdsh and ssh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${LLMORCH_BIN:-$(dirname "$(command -v deepspeed)")}

set -a
. "$here/environment.sh"
set +a
. "$here/arguments.sh"
# Of other variables the launcher forwards MLFLOW*, PYTHON*, MV2*, UCX* and NCCL* alone.
export DS_ENV_FILE="$here/engine/deepspeed_env"
hostfile=${HOSTFILE:-$here/hostfile}
if [ ! -s "$hostfile" ]; then
  echo "$hostfile: hostfile not found; DeepSpeed would train on this host alone" >&2
  echo "  a line a host: h1 slots=8; llmorch generate --hostfile F writes it" >&2
  exit 6
fi

# A rank reads LOCAL_RANK, as under torchrun; the first word is the launcher's own python.
exec deepspeed --hostfile "$hostfile" --master_port "${MASTER_PORT:-29500}" \
  --no_local_rank "${command[@]:1}"
