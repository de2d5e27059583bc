#!/bin/bash
# Starts the ranks of this host with torchrun. On each of the 2048 hosts:
#
#   NODE_RANK=0 MASTER_ADDR=first-host bash run.sh      # NODE_RANK from 0 to 2047
#
# On Slurm: MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1), and
# NODE_RANK is read from SLURM_NODEID. One start a host, never one a GPU.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${LLMORCH_BIN:-$(dirname "$(command -v llmorch || command -v torchrun)")}
node_rank=${NODE_RANK:-${SLURM_NODEID:-0}}
master_addr=${MASTER_ADDR:?"the address of the first host"}
master_port=${MASTER_PORT:-29500}

set -a
. "$here/environment.sh"
set +a
. "$here/arguments.sh"

exec torchrun --no-python --nnodes=2048 --nproc-per-node=8 --max-restarts=0 \
  --node-rank="$node_rank" --master-addr="$master_addr" --master-port="$master_port" \
  "${command[@]}"
