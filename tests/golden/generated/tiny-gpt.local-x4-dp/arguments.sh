# The command of every rank; ranks differ by environment alone.
command=(
  "$bin"/llmorch-megatron-core-worker
  --config "$here"/engine/megatron_core.json
)
