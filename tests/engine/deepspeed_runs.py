"""Run files for DeepSpeed, drawn by Hypothesis: sound ones and broken ones alike."""

from typing import Any

from hypothesis import strategies as st

from orchestrator.engines.deepspeed.keys import forms_of

MODELS = ("llama-2-7b", "llama-3.1-8b", "qwen3-8b", "gpt3-175b", "mixtral-8x7b", "llama-2-70b")
VERSION = "0.19.8"
BLOCKS = (
    *("", "bf16", "fp16", "zero_optimization", "zero_optimization.offload_optimizer"),
    *("zero_optimization.offload_param", "comms_logger", "csv_monitor", "compile"),
    *("activation_checkpointing", "flops_profiler", "checkpoint", "data_types", "hybrid_engine"),
)
FLAWS = (
    *("cp", "tp", "stage", "replicas", "offload", "batch", "style", "half"),
    *("key", "value", "value", "key"),
)
"""What a drawn run file may have wrong; values of own keys alone are not all wrong."""

UNKNOWN = ("zero_optimisation", "elasticity", "stagee", "mics_shard_size")
WRONG_VALUES = ("many", -1, True, 3.5, {}, [], 10**12)


@st.composite
def run_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a run file as a document; in about half of them something is wrong."""
    flaw = draw(st.sampled_from((*([""] * len(FLAWS)), *FLAWS)))
    hosts = draw(st.sampled_from((1, 2, 4, 16, 128)))
    pp = draw(st.sampled_from((1, 1, 1, 2, 4)))
    cp = 1 if pp > 1 else draw(st.sampled_from((1, 1, 2, 4)))
    dp = max(1, hosts * 8 // (pp * cp))
    precision = draw(st.sampled_from(("bf16", "bf16", "fp32", "fp16")))
    zero = draw(st.sampled_from((0, 1) if pp > 1 else (0, 1, 2, 3)))
    least = 1 if precision == "fp16" else 0
    own = draw(st.sampled_from((0, 1, 2))) if flaw not in {"key", "value"} else 1
    return {
        "schema": 1,
        "name": "drawn",
        "model": draw(st.sampled_from(MODELS)),
        "cluster": {"card": "dgx-h100", "hosts": hosts},
        "training": draw(_training(dp=dp, precision=precision, zero=zero, flaw=flaw)),
        "layout": draw(_layout(pp=pp, cp=cp, zero=max(zero, least), flaw=flaw)),
        "engine": {
            "name": "deepspeed",
            "version": VERSION,
            "script": "/opt/train.py",
            "config": merged([draw(own_key(flaw)) for _ in range(own)]),
        },
    }


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return blocks that stand for the same key joined, a value where it is no block replaced."""
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            before = whole.get(key)
            both = isinstance(before, dict) and isinstance(value, dict)
            whole[key] = merged([before, value]) if both else value
    return whole


@st.composite
def own_key(draw: st.DrawFn, flaw: str) -> dict[str, Any]:
    """Draw one key of DeepSpeed's JSON in its blocks: known or not, with a good value or not."""
    block = draw(st.sampled_from(BLOCKS))
    forms = forms_of(VERSION, block)
    known = [key for key, takes in sorted(forms.items()) if takes not in {"any", "block"}]
    key = draw(st.sampled_from(UNKNOWN if flaw == "key" else known))
    good = good_value(forms.get(key, "int"))
    value = draw(st.sampled_from(WRONG_VALUES) if flaw == "value" else good)
    path = [*block.split("."), key] if block else [key]
    for name in reversed(path):
        value = {name: value}
    return value


@st.composite
def good_value(draw: st.DrawFn, takes: str) -> Any:
    kind, *_ = takes.split()
    if "|" in kind:
        words = kind.split("|")
        word = draw(st.sampled_from(words))
        return int(word) if word.isdigit() else word
    values: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int": st.integers(1, 10**9),
        "float": st.sampled_from((0.25, 1.0)),
        "str": st.sampled_from(("a", "/tmp/x")),
        "list": st.just([]),
    }
    return draw(values[kind])


@st.composite
def _training(draw: st.DrawFn, *, dp: int, precision: str, zero: int, flaw: str) -> dict[str, Any]:
    style = "wsd" if flaw == "style" else draw(st.sampled_from(("cosine", "linear", "constant")))
    optimizer: dict[str, Any] = {
        "learning_rate": draw(st.floats(1e-5, 1e-2)),
        "min_learning_rate": 1e-6 if style == "cosine" else 0.0,
        "warmup_steps": draw(st.sampled_from((0, 1, 2, 50))),
        "decay_style": style,
        "beta2": draw(st.sampled_from((0.95, 0.999))),
        "clip_grad": draw(st.sampled_from((0.5, 1.0))),
    }
    if style == "wsd":
        optimizer["wsd_decay_steps"] = 10
    sizes = (2047, dp * 8 + 1) if flaw == "batch" else tuple(dp * 8 * n for n in (1, 2, 3))
    training: dict[str, Any] = {
        "sequence_length": draw(st.sampled_from((1024, 2048))),
        "global_batch_size": draw(st.sampled_from(sizes)),
        "steps": draw(st.integers(100, 1_000_000)),
        "precision": precision,
        "optimizer": optimizer,
    }
    needs_half = precision == "bf16" and zero == 0
    if (needs_half and flaw != "half") or (precision == "bf16" and draw(st.booleans())):
        training["numerics"] = {"gradients": "bf16"}
    return training


@st.composite
def _layout(draw: st.DrawFn, *, pp: int, cp: int, zero: int, flaw: str) -> dict[str, Any]:
    offloads = {0: "none", 1: "optimizer", 2: "optimizer", 3: "parameters"}
    offload = draw(st.sampled_from(("none", offloads[zero])))
    return {
        "pp": pp,
        "cp": 3 if flaw == "cp" else cp,
        "tp": 2 if flaw == "tp" else 1,
        "micro_batch_size": draw(st.sampled_from((1, 2))),
        "zero_stage": 3 if flaw == "stage" and pp > 1 else zero,
        "zero_replicas": 2 if flaw == "replicas" else 1,
        "offload": "parameters" if flaw == "offload" else offload,
        "overlap": draw(st.sampled_from(([], ["dp"]))),
        "recompute": draw(st.sampled_from(({"granularity": "none"}, {"granularity": "full"}))),
    }
