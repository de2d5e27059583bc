"""Run by another Python with a megatron-core wheel that has `megatron.training`: its own checks.

stdin: JSON, a list of {"argv": [...], "env": {...}, "world_size": n}. stdout: one JSON list of
{"refused": null or the message, "args": what the parser read}. No GPU: torch is told that there
are Hopper devices, as many as the world has.
"""

import contextlib
import io
import json
import os
import sys
from types import SimpleNamespace


def main() -> None:
    """Examine all cases of stdin in this process."""
    cases = json.load(sys.stdin)
    out = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):
        pretend_hopper()
        answers = [examined(case) for case in cases]
    json.dump(answers, out)


def pretend_hopper() -> None:
    import torch

    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.get_device_properties = lambda *_: SimpleNamespace(major=9, minor=0)
    torch.cuda.current_device = lambda: 0
    torch.cuda.is_available = lambda: True
    pretend_transformer_engine()


def pretend_transformer_engine() -> None:
    """Say that a new Transformer Engine is there: its wheel needs CUDA, these checks do not."""
    from megatron.core.models.common.embeddings import rope_utils
    from megatron.core.transformer import transformer_config
    from megatron.core.transformer.moe import moe_utils

    rope_utils.fused_apply_rotary_pos_emb = rope_utils.fused_apply_rotary_pos_emb_thd = print
    for name in [name for name in vars(moe_utils) if name.startswith("fused_")]:
        setattr(moe_utils, name, print)
    for name in ("is_te_min_version", "HAVE_TE"):
        if hasattr(transformer_config, name):
            setattr(transformer_config, name, True if name.isupper() else lambda *_, **__: True)


def examined(case: dict) -> dict:
    from megatron.training.arguments import parse_args, validate_args

    os.environ.update(RANK="0", WORLD_SIZE=str(case["world_size"]), LOCAL_RANK="0")
    os.environ.pop("CUDA_DEVICE_MAX_CONNECTIONS", None)
    os.environ.update(case["env"])
    sys.argv = ["pretrain_gpt.py", *case["argv"]]
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            args = parse_args()
            read = {k: v for k, v in vars(args).items() if json_like(v)}
            validate_args(args)
            config(args)
    except SystemExit:
        return {"refused": stderr.getvalue().strip().splitlines()[-1], "args": {}}
    except Exception as error:  # noqa: BLE001  whatever the engine says is the answer
        return {"refused": f"{type(error).__name__}: {error}", "args": {}}
    return {"refused": None, "args": read}


def config(args: object) -> None:
    """Build the TransformerConfig as pretrain_gpt.py does: it refuses what the parser let pass."""
    try:
        from megatron.training.argument_utils import core_transformer_config_from_args
    except ImportError:
        from megatron.training.arguments import core_transformer_config_from_args
    core_transformer_config_from_args(args)


def json_like(value: object) -> bool:
    return isinstance(value, bool | int | float | str | list | tuple | type(None))


if __name__ == "__main__":
    main()
