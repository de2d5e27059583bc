"""Rules on the pipeline: stages hold whole layers, and the engines run the schedule."""

from collections.abc import Iterator

from orchestrator.errors import Problem
from orchestrator.rules.rule import Rule, Subject, divisors, possible
from orchestrator.schedules import legal, stages


def _stages(subject: Subject) -> Iterator[Problem]:
    layout, model = subject.layout, subject.run.model
    if layout.stage_layout is None:
        yield from _even_stages(subject)
        return
    refused = stages.text_refusal(
        layout.stage_layout,
        num_layers=model.num_layers,
        pp=layout.pp,
        vpp=layout.vpp,
        mtp_num_layers=model.mtp_num_layers,
    )
    if refused is not None:
        yield Problem(
            key="layout.stage_layout",
            message=f"'{layout.stage_layout}': {refused.reason}",
            possible=refused.possible,
            rule="stages",
        )


def _even_stages(subject: Subject) -> Iterator[Problem]:
    layout, model = subject.layout, subject.run.model
    if model.num_layers % layout.num_stages == 0:
        return
    key, degree = ("layout.vpp", layout.vpp) if layout.vpp > 1 else ("layout.pp", layout.pp)
    other = layout.num_stages // degree
    fits = tuple(d for d in divisors(model.num_layers) if model.num_layers % (d * other) == 0)
    uneven = stages.accounted(model.num_layers, num_stages=layout.num_stages)
    hints = (
        possible(fits, near=degree),
        f"stage_layout: '{stages.text_of(uneven)}'" if uneven else "",
    )
    yield Problem(
        key=key,
        message=f"{model.num_layers} layers ({model.name}) do not divide into "
        f"pp {layout.pp} x vpp {layout.vpp} = {layout.num_stages} stages",
        possible="; or ".join(hint for hint in hints if hint),
        rule="stages",
    )


def _schedule(subject: Subject) -> Iterator[Problem]:
    layout, batch = subject.layout, subject.run.training.global_batch_size
    microbatches = layout.num_microbatches(batch)
    if microbatches == 0:
        return  # the rule `microbatches` says so
    refused = legal.refusal(
        layout.schedule,
        pp=layout.pp,
        vpp=layout.vpp,
        num_microbatches=microbatches,
        microbatch_group_size=layout.microbatch_group_size,
    )
    if refused is not None:
        yield Problem(
            key="layout.schedule",
            message=refused.reason,
            possible=refused.possible,
            rule="schedule",
        )


def _overlap(subject: Subject) -> Iterator[Problem]:
    layout = subject.layout
    refused = legal.p2p_refusal(layout.schedule, pp=layout.pp, overlap=layout.overlap)
    if refused is not None:
        yield Problem(
            key="layout.overlap",
            message=refused.reason,
            possible=refused.possible,
            rule="pipeline-overlap",
        )


RULES = (
    Rule(
        id="stages",
        condition="the layers divide into pp x vpp stages, or stage_layout names each once",
        source="Megatron validate_args and PipelineParallelLayerLayout",
        since="megatron-core@0.12",
        check=_stages,
    ),
    Rule(
        id="schedule",
        condition="pp <= group size <= microbatches, and the last group is whole or holds pp",
        source="Megatron schedules, at the first step",
        since="megatron-core@0.12",
        check=_schedule,
    ),
    Rule(
        id="pipeline-overlap",
        condition="1F1B without overlapped p2p; interleaving over two ranks with it",
        source="Megatron validate_args; measured: silent corruption otherwise",
        since="megatron-core@0.12",
        check=_overlap,
    ),
)
