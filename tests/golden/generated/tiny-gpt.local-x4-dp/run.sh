#!/bin/bash
# Starts and supervises the whole run, on the host where llmorch shall be: see launch in run.yaml.
# For a start by torchrun instead: launch.starter: torchrun, and generate again.
set -euo pipefail
exec llmorch launch "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/run.yaml" "$@"
