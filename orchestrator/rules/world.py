"""Rules on the world: degrees multiply to the ranks there are, and stay where links are fast."""

from collections.abc import Iterator

from orchestrator.errors import Problem
from orchestrator.rules.rule import Rule, Subject, divisors, possible


def _world_size(subject: Subject) -> Iterator[Problem]:
    layout, world = subject.layout, subject.run.machine.world_size
    if layout.world_size != world:
        fits = tuple(d for d in divisors(world) if world % (d * layout.tp * layout.cp) == 0)
        yield Problem(
            key="layout",
            message=f"tp {layout.tp} x cp {layout.cp} x pp {layout.pp} = "
            f"{layout.model_parallel_size} does not divide the {world} ranks of the cluster",
            possible=possible(fits, near=layout.pp).replace("possible:", "pp could be")
            or f"tp x cp must divide {world}",
            rule="world-size",
        )


def _expert_world(subject: Subject) -> Iterator[Problem]:
    layout, world = subject.layout, subject.run.machine.world_size
    size = layout.etp * layout.ep * layout.pp
    if subject.run.model.moe and world % size:
        yield Problem(
            key="layout.ep",
            message=f"etp {layout.etp} x ep {layout.ep} x pp {layout.pp} = {size} does not divide "
            f"the {world} ranks of the cluster",
            possible="set etp: 1, or lower ep",
            rule="expert-world",
        )


def _tp_inside_fast_links(subject: Subject) -> Iterator[Problem]:
    domain = subject.run.machine.cluster.scale_up_domain_gpus
    if subject.layout.tp > domain:
        yield Problem(
            key="layout.tp",
            message=f"{subject.layout.tp} ranks reach beyond the {domain} GPUs "
            "joined by fast links",
            possible=f"use tp {domain} or less",
            rule="tp-inside-fast-links",
        )


def _zero_replicas(subject: Subject) -> Iterator[Problem]:
    layout = subject.layout
    if (layout.dp * layout.cp) % layout.zero_replicas:
        yield Problem(
            key="layout.zero_replicas",
            message=f"{layout.zero_replicas} does not divide dp x cp = {layout.dp * layout.cp}",
            possible=possible(divisors(layout.dp * layout.cp), near=layout.zero_replicas),
            rule="zero-replicas",
        )


RULES = (
    Rule(
        id="world-size",
        condition="tp x cp x pp x dp is the number of ranks",
        source="Megatron parallel_state and validate_args",
        since="megatron-core@0.12",
        check=_world_size,
    ),
    Rule(
        id="expert-world",
        condition="etp x ep x pp divides the number of ranks (MoE)",
        source="Megatron parallel_state",
        since="megatron-core@0.12",
        check=_expert_world,
    ),
    Rule(
        id="tp-inside-fast-links",
        condition="tp is at most the GPUs joined by fast links",
        source="ours: TP communicates in every layer, over the network it starves",
        since="any",
        check=_tp_inside_fast_links,
    ),
    Rule(
        id="zero-replicas",
        condition="zero_replicas divides dp x cp",
        source="Megatron validate_args (--num-distributed-optimizer-instances)",
        since="megatron-core@0.12",
        check=_zero_replicas,
    ),
)
