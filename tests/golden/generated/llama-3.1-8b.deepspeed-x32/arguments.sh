# The command of every rank; ranks differ by environment alone.
command=(
  python3 /opt/train.py
  --deepspeed
  --deepspeed_config "$here"/engine/deepspeed.json
  --data /data/text
)
