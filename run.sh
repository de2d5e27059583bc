#!/bin/sh
# The main job: a 1,024-GPU plan, then a real Megatron-Core training on four CPU processes.
set -eu
cd "$(dirname "$0")"
sh docker/setup.sh run
PATH="$PWD/.venv/bin:$PATH"
llmorch plan --gpus 1024
llmorch launch parallel_configs/tiny-gpt.local-x4.yaml
