"""The cost model against measured step times: today's error, which may only shrink.

`throughput.csv` holds published rows with their sources. They are the same software stack's
(Megatron-Core in NeMo, H100) unless the class says otherwise, and most of them were among the
rows that the constants were fitted on: this guards against getting worse, it is no proof of
accuracy on rows nobody has seen. Print the table of docs/cost-model.md with

    python tests/published/test_throughput.py
"""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

from orchestrator.catalog.cards import accelerator_card, cluster_card
from orchestrator.cost.quote import price
from orchestrator.records.layout import Layout, Recompute
from orchestrator.records.run import Machine, ResolvedRun
from orchestrator.specs.choices import (
    OverlapAxis,
    Precision,
    RecomputeGranularity,
    ScheduleKind,
)
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.model import ModelCard
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

Row = Mapping[str, str]

TODAY_MEAN = {"dense H100": 0.045, "dense A100": 0.176}
TODAY_WORST = {"dense H100": 0.148, "dense A100": 0.213}


def _card(row: Row) -> ModelCard:
    gated = row["mlp"] == "gated"
    return ModelCard(
        name=row["model"],
        num_layers=int(row["layers"]),
        hidden_size=int(row["hidden"]),
        ffn_hidden_size=int(row["ffn"]),
        num_attention_heads=int(row["heads"]),
        num_query_groups=int(row["groups"]),
        head_dim=int(row["hidden"]) // int(row["heads"]),
        vocab_size=int(row["vocab"]),
        max_sequence_length=int(row["sequence"]),
        gated_mlp=gated,
        activation="silu" if gated else "gelu",
        normalization="RMSNorm" if gated else "LayerNorm",
        position_embedding="rope",
        rotary_base=10_000,
        tied_embeddings=not gated,
        qkv_bias=not gated,
        linear_bias=not gated,
    )


def _layout(row: Row) -> Layout:
    pp, vpp = int(row["pp"]), int(row["vpp"])
    interleaved = ScheduleKind.INTERLEAVED if vpp > 1 else ScheduleKind.ONE_F_ONE_B
    overlap = {
        OverlapAxis.TP: row["tp_overlap"] == "on",
        OverlapAxis.DP: True,
        OverlapAxis.PP: vpp > 1,
    }
    return Layout(
        tp=int(row["tp"]),
        cp=int(row["cp"]),
        pp=pp,
        dp=int(row["dp"]),
        vpp=vpp,
        microbatch_group_size=pp,
        micro_batch_size=int(row["micro_batch"]),
        zero_stage=int(row["zero_stage"]),
        overlap=tuple(sorted(axis for axis, on in overlap.items() if on)),
        sequence_parallel=row["sequence_parallel"] == "yes",
        recompute=_recompute(row["recompute"]),
        schedule=ScheduleKind.NO_PIPELINE if pp == 1 else interleaved,
        stage_layout=row["stage_layout"] or None,
    )


def _recompute(word: str) -> Recompute:
    if word == "none":
        return Recompute()
    if word == "full":
        return Recompute(granularity=RecomputeGranularity.FULL)
    return Recompute(granularity=RecomputeGranularity.SELECTIVE, modules=(word,))


def _run(row: Row) -> ResolvedRun:
    gpus = int(row["gpus"])
    training = TrainingSpec(
        sequence_length=int(row["sequence"]),
        global_batch_size=int(row["global_batch"]),
        steps=1,
        precision=Precision(row["precision"]),
    )
    model, card = _card(row), cluster_card(row["cluster"])
    spec = RunSpec(
        schema=1,
        name=row["id"],
        model=model,
        cluster=ClusterSpec(card=row["cluster"], gpus=gpus),
        training=training,
    )
    machine = Machine(
        cluster=card,
        accelerator=accelerator_card(card.accelerator),
        hosts=gpus // card.gpus_per_host,
        gpus_per_host=card.gpus_per_host,
    )
    return ResolvedRun(
        spec=spec, model=model, machine=machine, training=training, steps=1, layout=_layout(row)
    )


def _predicted_s(row: Row) -> float:
    return price(_run(row), _layout(row)).step_time_s


def _error(row: Row) -> float:
    """Return predicted over measured, less 1."""
    return _predicted_s(row) / float(row["measured_s"]) - 1


@cache
def _rows() -> tuple[Row, ...]:
    path = Path(__file__).with_name("throughput.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def _of(kind: str) -> list[Row]:
    return [row for row in _rows() if row["class"] == kind]


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row["id"])
def test_a_row_uses_every_rank_and_whole_microbatches(row: Row):
    layout = _layout(row)

    assert layout.world_size == int(row["gpus"])
    assert int(row["global_batch"]) % (layout.micro_batch_size * layout.dp) == 0


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row["id"])
def test_no_row_is_further_off_than_today(row: Row):
    error = abs(_error(row))

    assert error <= TODAY_WORST[row["class"]], f"{row['id']}: off by {error:.1%}"


@pytest.mark.parametrize("kind", sorted(TODAY_MEAN))
def test_the_mean_error_of_a_class_only_shrinks(kind: str):
    mean = fmean(abs(_error(row)) for row in _of(kind))

    assert mean <= TODAY_MEAN[kind], f"{kind}: the mean grew to {mean:.1%}"
    assert mean >= 0.8 * TODAY_MEAN[kind], f"{kind}: better, {mean:.1%}: lower TODAY_MEAN"


def test_the_page_on_the_cost_model_shows_todays_table(root: Path):
    page = (root / "docs" / "cost-model.md").read_text(encoding="utf-8")

    assert _table() in page, "paste what `python tests/published/test_throughput.py` prints"


def _table() -> str:
    titles = ("row", "model", "GPUs", "precision", "predicted s", "measured s", "error")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in _rows():
        predicted, measured = _predicted_s(row), float(row["measured_s"])
        lines.append(
            f"| {row['id']} | {row['model']} | {row['gpus']} | {row['precision']} "
            f"| {predicted:.2f} | {measured:.2f} | {predicted / measured - 1:+.1%} |"
        )
    for kind in sorted(TODAY_MEAN):
        errors = [_error(row) for row in _of(kind)]
        mean, bias = fmean(map(abs, errors)), fmean(errors)
        lines.append(f"\n{kind}: {len(errors)} rows, mean {mean:.1%}, bias {bias:+.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(_table())  # noqa: T201  the table is what running this file is for
