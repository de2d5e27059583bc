"""Run files for `pretrain_gpt.py`, drawn by Hypothesis: sound ones and broken ones alike."""

import math
from typing import Any

from hypothesis import strategies as st

from orchestrator.catalog.cards import model_card

MODELS = (
    *("gpt3-175b", "llama-2-7b", "llama-3.1-8b", "llama-3.1-405b", "qwen3-8b", "qwen2.5-7b"),
    *("mixtral-8x7b", "deepseek-v2-lite", "deepseek-v3", "nemotron-4-15b", "gpt-oss-20b"),
)
"""One of each kind: GPT, GQA, head_dim apart from h / heads, biases of q, k, v, experts, MLA."""


@st.composite
def run_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a run file as a document; about half of them break a rule somewhere."""
    card = model_card(draw(st.sampled_from(MODELS)))
    tp = draw(st.sampled_from([d for d in (1, 2, 4, 8) if card.num_query_groups % d == 0]))
    pp = draw(st.sampled_from([d for d in range(1, 9) if card.num_layers % d == 0] + [3]))
    cp = 1 if card.mla else draw(st.sampled_from((1, 1, 2)))
    dp = draw(st.sampled_from((1, 2, 4))) * 8 // math.gcd(8, tp * pp * cp)
    experts = card.moe is not None
    return {
        "schema": 1,
        "name": "drawn",
        "model": card.name,
        "cluster": {"card": "dgx-h100", "hosts": tp * pp * cp * dp // 8},
        "training": draw(_training(longest=card.max_sequence_length, dp=dp)),
        "layout": draw(_layout(tp=tp, pp=pp, cp=cp, experts=experts)),
        "checkpoint": {"interval_steps": 100},
        "engine": {"hooks": draw(_hooks())},
        **draw(_data()),
    }


def often(draw: st.DrawFn, sound: Any, *broken: Any) -> Any:
    """Draw what is sound nine times of ten."""
    return draw(st.sampled_from(broken)) if draw(st.integers(0, 9)) == 0 else sound


@st.composite
def _hooks(draw: st.DrawFn) -> dict[str, bool]:
    return {name: often(draw, False, True) for name in ("stragglers", "fault_tolerance")}


@st.composite
def _data(draw: st.DrawFn) -> dict[str, Any]:
    blend = [{"prefix": "/data/a", "weight": 3.0}, {"prefix": "/data/b", "weight": 1.0}]
    data = draw(st.sampled_from((None, {"prefix": "/data/text"}, {"blend": blend})))
    if data is None:
        return {}
    logging = draw(st.sampled_from(({}, {"tensorboard_dir": "/data/events", "interval_steps": 10})))
    return {"data": {**data, "split": "99,1,0"}, "logging": logging}


@st.composite
def _numerics(draw: st.DrawFn, *, precision: str) -> dict[str, Any]:
    """Mostly the usual formats, else some that hang together and some that do not."""
    gradients = draw(st.sampled_from(("fp32", "bf16")))
    return {
        "gradients": gradients,
        "optimizer_gradients": often(draw, draw(st.sampled_from(("fp32", gradients))), "bf16"),
        "master_parameters": draw(st.sampled_from(("fp32", "fp32", "fp16"))),
        "first_moment": draw(st.sampled_from(("fp32", "bf16", "fp8"))),
        "second_moment": draw(st.sampled_from(("fp32", "fp16"))),
        "narrow_parameters": often(draw, precision == "fp8" and draw(st.booleans()), True),
    }


@st.composite
def _training(draw: st.DrawFn, *, longest: int, dp: int) -> dict[str, Any]:
    batch = often(draw, dp * 64 * draw(st.integers(1, 4)), 2047, dp * 64 + 1)
    precision = draw(st.sampled_from(("bf16", "bf16", "fp8")))
    recipe = draw(st.sampled_from((None, "delayed", "tensorwise", "blockwise")))
    training: dict[str, Any] = {
        "sequence_length": often(draw, min(longest, draw(st.sampled_from((2048, 4096)))), 4098),
        "global_batch_size": batch,
        "steps": draw(st.integers(100, 1_000_000)),
        "precision": precision,
        "vocab_padding_multiple": draw(st.sampled_from((64, 128))),
        "optimizer": draw(_optimizer()),
    }
    if draw(st.integers(0, 2)) == 0:
        training["numerics"] = draw(_numerics(precision=precision))
    if draw(st.integers(0, 3)) == 0:
        training["evaluation"] = {"interval_steps": draw(st.sampled_from((10, 100)))}
    if precision == "fp8" and recipe is not None:
        training["fp8_recipe"] = recipe
    if draw(st.booleans()) and batch % (dp * 64) == 0:
        middle = batch // 2
        training["batch_ramp"] = [
            {"from_samples": 0, "global_batch_size": middle},
            {"from_samples": middle * draw(st.integers(1, 9)), "global_batch_size": batch},
        ]
    return training


@st.composite
def _optimizer(draw: st.DrawFn) -> dict[str, Any]:
    style = draw(st.sampled_from(("cosine", "linear", "constant", "inverse-square-root", "wsd")))
    optimizer: dict[str, Any] = {
        "learning_rate": draw(st.floats(1e-5, 1e-2)),
        "min_learning_rate": 1e-6,
        "warmup_steps": draw(st.sampled_from((0, 10, 50))),
        "decay_style": style,
    }
    if style == "wsd":
        optimizer["wsd_decay_steps"] = draw(st.integers(1, 20))
    return optimizer


@st.composite
def _layout(draw: st.DrawFn, *, tp: int, pp: int, cp: int, experts: bool) -> dict[str, Any]:
    zero = draw(st.sampled_from((0, 1, 1, 2, 3))) if pp == 1 else often(draw, 1, 0, 2, 3)
    layout: dict[str, Any] = {
        "tp": tp,
        "pp": pp,
        "cp": cp,
        "vpp": often(draw, 1, 2),
        "ep": draw(st.sampled_from((1, 2, 4))) if experts else often(draw, 1, 2),
        "etp": 1,
        "micro_batch_size": draw(st.sampled_from((1, 2))),
        "zero_stage": zero,
        "sequence_parallel": often(draw, tp > 1, False),
        "overlap": draw(st.sampled_from(([], ["dp"]))) if zero else [],
        "recompute": draw(
            st.sampled_from(
                (
                    {"granularity": "none"},
                    {"granularity": "selective", "modules": ["core_attn"]},
                    {"granularity": "selective", "modules": ["layernorm", "mlp"]},
                    {"granularity": "full"},
                    {"granularity": "full", "layers": 1},
                )
            )
        ),
    }
    if zero and draw(st.integers(0, 4)) == 0:
        layout["zero_replicas"] = 2
    if cp > 1:
        layout["cp_comm_type"] = draw(st.sampled_from((None, "p2p", "a2a", "allgather")))
    return {key: value for key, value in layout.items() if value is not None}
