"""Rules on the pipeline: stages hold whole layers, and the engines run the schedule."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from orchestrator.records.layout import Layout
from orchestrator.rules.change import Change, change, changes, divisors, nearby
from orchestrator.rules.rule import (
    PASS,
    Breach,
    Breaches,
    Rule,
    Severity,
    Subject,
    megatron_core,
    ours,
)
from orchestrator.schedules import legal, stages
from orchestrator.schedules.refusal import Refusal
from orchestrator.specs.choices import ScheduleKind

_USUAL = (ScheduleKind.INTERLEAVED, ScheduleKind.ONE_F_ONE_B, ScheduleKind.NO_PIPELINE)


def _even_stages(subject: Subject) -> Breaches:
    layout, model = subject.layout, subject.run.model
    layers, pp, vpp = model.num_layers, layout.pp, layout.vpp
    if layout.stage_layout is not None or layers % layout.num_stages == 0:
        return PASS
    key, degree = ("layout.vpp", vpp) if vpp > 1 else ("layout.pp", pp)
    other = layout.num_stages // degree
    fits = nearby(divisors(layers), near=degree, fits=lambda d: layers % (d * other) == 0)
    uneven = _accounted(subject)
    passing = (
        *changes(key, fits),
        *(changes("layout.stage_layout", (uneven,)) if uneven else ()),
    )
    said = {"layers": layers, "model": model.name, "pp": pp, "vpp": vpp, "stages": pp * vpp}
    advice = "" if passing else "write a stage_layout"
    return (Breach(key=key, said=said, passing=passing, advice=advice),)


def _stage_layout(subject: Subject) -> Breaches:
    layout = subject.layout
    refused = None if layout.stage_layout is None else _text_refusal(subject, layout.stage_layout)
    if refused is None:
        return PASS
    layers = subject.run.model.num_layers
    uneven = _accounted(subject)
    passing = (
        *(changes("layout.stage_layout", (uneven,)) if uneven else ()),
        *(changes("layout.stage_layout", (None,)) if layers % layout.num_stages == 0 else ()),
    )
    said = {"text": layout.stage_layout, "reason": refused.reason}
    return (Breach(key="layout.stage_layout", said=said, passing=passing, advice=refused.possible),)


def _accounted(subject: Subject) -> str | None:
    """Return the layout in which embedding and loss count as layers, if the engines take it."""
    layout, model = subject.layout, subject.run.model
    uneven = stages.accounted(
        model.num_layers, num_stages=layout.num_stages, mtp_num_layers=model.mtp_num_layers
    )
    text = None if uneven is None else stages.text_of(uneven)
    return text if text and _text_refusal(subject, text) is None else None


def _text_refusal(subject: Subject, text: str) -> Refusal | None:
    layout, model = subject.layout, subject.run.model
    return _refusal_of(
        text,
        num_layers=model.num_layers,
        pp=layout.pp,
        vpp=layout.vpp,
        mtp_num_layers=model.mtp_num_layers,
    )


_refusal_of = lru_cache(maxsize=4096)(stages.text_refusal)  # a search asks the same many times


def _is_refused(subject: Subject) -> bool:
    return _refused(subject.layout, _batches(subject)) is not None


def _schedule(subject: Subject) -> Breaches:
    refused = _refused(subject.layout, _batches(subject))
    if refused is None:
        return PASS
    passing = tuple(_schedules_that_pass(subject, refused))
    said = {"reason": refused.reason}
    advice = "" if passing else refused.possible
    return (Breach(key="layout.schedule", said=said, passing=passing, advice=advice),)


def _batches(subject: Subject) -> tuple[int, ...]:
    training = subject.run.training
    if not training.batch_ramp:
        return (training.global_batch_size,)
    return tuple(dict.fromkeys(phase.global_batch_size for phase in training.batch_ramp))


def _refused(layout: Layout, batches: tuple[int, ...]) -> Refusal | None:
    for batch in batches:
        microbatches = layout.num_microbatches(batch)
        refused = None
        if microbatches:  # where there is none, the rule `microbatches` says so
            refused = legal.refusal(
                layout.schedule,
                pp=layout.pp,
                vpp=layout.vpp,
                num_microbatches=microbatches,
                microbatch_group_size=layout.microbatch_group_size,
            )
        if refused is not None:
            return refused
    return None


def _schedules_that_pass(subject: Subject, refused: Refusal) -> Iterator[Change]:
    """Try what is near: other schedules and chunks, then the refusal's own numbers."""
    layout, batches = subject.layout, _batches(subject)

    def passes(**values: Any) -> bool:  # noqa: ANN401  fields of a layout
        return _refused(replace(layout, **values), batches) is None

    yield from (
        change("layout.schedule", kind.value)
        for kind in _USUAL
        if kind is not layout.schedule and passes(schedule=kind)
    )
    yield from (change("layout.vpp", vpp) for vpp in (1, 2) if passes(vpp=vpp))
    group = refused.nearest_group_size
    if group is not None and passes(microbatch_group_size=group):
        yield change("layout.microbatch_group_size", group)
    if subject.run.training.batch_ramp:
        return
    for count in refused.nearest_num_microbatches:
        batch = count * layout.micro_batch_size * layout.dp
        if _refused(layout, (batch,)) is None:
            yield change("training.global_batch_size", batch)


def _few_microbatches(subject: Subject) -> Breaches:
    layout, batch = subject.layout, subject.run.training.global_batch_size
    count = layout.num_microbatches(batch)
    if layout.pp == 1 or count == 0 or count >= layout.pp:
        return PASS
    said = {
        "count": count,
        "pp": layout.pp,
        "idle": f"{(layout.pp - 1) / (layout.pp - 1 + count * layout.vpp):.0%}",
    }
    enough = layout.pp * layout.micro_batch_size * layout.dp
    passing = changes("training.global_batch_size", (enough, 2 * enough))
    return (Breach(key="training.global_batch_size", said=said, passing=passing),)


RULES = (
    Rule(
        id="stages",
        condition="the layers divide into pp x vpp stages, or stage_layout names each once",
        message="{layers} layers ({model}) do not divide into pp {pp} x vpp {vpp} = {stages} "
        "stages",
        source=megatron_core(
            "transformer/transformer_block.py", 157, "num_layers should be divisible by"
        ),
        since="0.9",
        check=_even_stages,
    ),
    Rule(
        id="stage-layout",
        condition="stage_layout is of Megatron's grammar, for pp x vpp stages and all layers",
        message="'{text}': {reason}",
        source=megatron_core(
            "transformer/pipeline_parallel_layer_layout.py", 107, "Number of decoder layers"
        ),
        since="0.13",
        check=_stage_layout,
    ),
    Rule(
        id="schedule",
        condition="the schedule takes these ranks, chunks and microbatches; interleaved: "
        "pp <= group size <= microbatches, and a last group that is whole or holds pp",
        message="{reason}",
        source=megatron_core("pipeline_parallel/schedules.py", 1001, "should range in [PP="),
        since="0.10",
        check=_schedule,
        is_broken=_is_refused,
    ),
    Rule(
        id="few-microbatches",
        condition="a step has at least pp microbatches",
        message="{count} microbatches a step for pp {pp}: ranks are idle {idle} of the time",
        source=ours("the bubble of 1F1B is (pp - 1) / (pp - 1 + microbatches x vpp)"),
        severity=Severity.WARNING,
        check=_few_microbatches,
    ),
)
