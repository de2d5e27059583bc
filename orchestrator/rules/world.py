"""Rules on the world: degrees multiply to the ranks there are, and stay where links are fast."""

from orchestrator.rules.change import change, changes, divisors, nearby
from orchestrator.rules.rule import (
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Severity,
    Subject,
    megatron_core,
    ours,
)


def _world_size(subject: Subject) -> Breaches:
    layout, world = subject.layout, subject.run.machine.world_size
    if layout.world_size == world:
        return PASS
    tp, cp, pp = layout.tp, layout.cp, layout.pp
    pps = nearby(divisors(world), near=pp, fits=lambda d: world % (d * tp * cp) == 0)
    tps = nearby(divisors(world), near=tp, fits=lambda d: world % (d * cp * pp) == 0)
    cps = nearby(divisors(world), near=cp, fits=lambda d: world % (d * tp * pp) == 0)
    passing = (*changes("layout.pp", pps), *changes("layout.tp", tps), *changes("layout.cp", cps))
    product = layout.model_parallel_size
    said = {"tp": tp, "cp": cp, "pp": pp, "product": product, "world": world}
    advice = "" if passing else f"tp x cp x pp must divide {world}: two of them must change"
    return (Breach(key="layout", said=said, passing=passing, advice=advice),)


def _expert_world(subject: Subject) -> Breaches:
    layout, world, moe = subject.layout, subject.run.machine.world_size, subject.run.model.moe
    if moe is None or world % (layout.etp * layout.ep * layout.pp) == 0:
        return PASS
    ep, etp, pp = layout.ep, layout.etp, layout.pp
    etps = nearby(divisors(layout.tp), near=etp, fits=lambda d: world % (d * ep * pp) == 0)
    eps = nearby(divisors(moe.num_experts), near=ep, fits=lambda d: world % (etp * d * pp) == 0)
    passing = (*changes("layout.etp", etps), *changes("layout.ep", eps))
    said = {
        "etp": etp,
        "from_tp": f" (left out, so tp {layout.tp})" if _is_etp_left_out(subject) else "",
        "ep": ep,
        "pp": pp,
        "size": etp * ep * pp,
        "world": world,
    }
    advice = "" if passing else f"pp must divide {world}"
    return (Breach(key="layout.ep", said=said, passing=passing, advice=advice),)


def _etp_left_out(subject: Subject) -> Breaches:
    layout = subject.layout
    if not _is_etp_left_out(subject) or layout.tp == 1 or layout.ep == 1:
        return PASS
    size = layout.etp * layout.ep * layout.pp
    world = subject.run.machine.world_size
    said = {
        "tp": layout.tp,
        "cp": layout.cp,
        "dp": layout.dp,
        "pp": layout.pp,
        "ep": layout.ep,
        "expert_dp": world // size if world % size == 0 else "a fraction",
    }
    passing = changes("layout.etp", (1, layout.tp))
    return (Breach(key="layout.etp", said=said, passing=passing),)


def _is_etp_left_out(subject: Subject) -> bool:
    written = subject.run.spec.layout
    return subject.run.model.moe is not None and written is not None and written.etp is None


def _tp_beyond_fast_links(subject: Subject) -> Breaches:
    tp, domain = subject.layout.tp, subject.run.machine.cluster.scale_up_domain_gpus
    if tp <= domain:
        return PASS
    heads = subject.run.model.num_attention_heads
    tps = nearby(divisors(heads), near=tp, fits=lambda d: d <= domain)
    said = {"tp": tp, "domain": domain}
    return (Breach(key="layout.tp", said=said, passing=changes("layout.tp", tps)),)


def _zero_replicas(subject: Subject) -> Breaches:
    layout, ranks = subject.layout, subject.layout.dp * subject.layout.cp
    if ranks % layout.zero_replicas == 0:
        return PASS
    fits = nearby(divisors(ranks), near=layout.zero_replicas, fits=lambda _: True)
    said = {"replicas": layout.zero_replicas, "dp": layout.dp, "cp": layout.cp, "ranks": ranks}
    passing = changes("layout.zero_replicas", fits)
    return (Breach(key="layout.zero_replicas", said=said, passing=passing),)


def _zero_replicas_experts(subject: Subject) -> Breaches:
    layout, world = subject.layout, subject.run.machine.world_size
    size = layout.etp * layout.ep * layout.pp
    if layout.zero_replicas == 1 or subject.run.model.moe is None or world % size:
        return PASS
    ranks = world // size
    if ranks % layout.zero_replicas == 0:
        return PASS
    fits = nearby(divisors(ranks), near=layout.zero_replicas, fits=lambda _: True)
    said = {"replicas": layout.zero_replicas, "size": size, "world": world, "ranks": ranks}
    passing = changes("layout.zero_replicas", fits)
    return (Breach(key="layout.zero_replicas", said=said, passing=passing),)


def _zero_replicas_stage(subject: Subject) -> Breaches:
    layout = subject.layout
    if layout.zero_replicas == 1 or layout.zero_stage:
        return PASS
    passing = (change("layout.zero_stage", 1), change("layout.zero_replicas", 1))
    said = {"replicas": layout.zero_replicas}
    return (Breach(key="layout.zero_replicas", said=said, passing=passing),)


_STATE = "parallel_state.py"

RULES = (
    Rule(
        id="world-size",
        condition="tp x cp x pp divides the number of ranks; dp is what is left",
        message="tp {tp} x cp {cp} x pp {pp} = {product} does not divide the {world} ranks "
        "of the cluster",
        source=megatron_core(_STATE, 741, "is not divisible by {model_size}"),
        since="0.9",
        check=_world_size,
    ),
    Rule(
        id="expert-world",
        condition="etp x ep x pp divides the number of ranks; etp left out is tp",
        message="etp {etp}{from_tp} x ep {ep} x pp {pp} = {size} does not divide the {world} "
        "ranks of the cluster",
        source=megatron_core(_STATE, 794, "is not divisible by expert_tensor_model_pipeline"),
        since="0.10",
        families=MEGATRON,
        check=_expert_world,
    ),
    Rule(
        id="etp-left-out",
        condition="with experts, tp and ep above 1, etp is written: left out it is tp, not 1",
        message="left out, so each expert is cut {tp} ways: dense ranks are tp {tp} x cp {cp} x "
        "dp {dp} x pp {pp}, expert ranks etp {tp} x ep {ep} x {expert_dp} copies x pp {pp}",
        source=megatron_core(_STATE, 786, "expert_tensor_parallel_size is None"),
        since="0.10",
        severity=Severity.WARNING,
        families=MEGATRON,
        check=_etp_left_out,
    ),
    Rule(
        id="tp-beyond-fast-links",
        condition="tp is at most the GPUs joined by fast links",
        message="{tp} ranks reach beyond the {domain} GPUs joined by fast links: every layer "
        "would wait for the network",
        source=ours("TP communicates four times in every layer, over the network it starves"),
        severity=Severity.WARNING,
        check=_tp_beyond_fast_links,
    ),
    Rule(
        id="zero-replicas",
        condition="zero_replicas divides dp x cp",
        message="{replicas} does not divide dp {dp} x cp {cp} = {ranks}",
        source=megatron_core(_STATE, 835, "% num_distributed_optimizer_instances == 0"),
        since="0.10",
        check=_zero_replicas,
    ),
    Rule(
        id="zero-replicas-experts",
        condition="zero_replicas divides the ranks that hold the same experts",
        message="{replicas} does not divide {world} ranks / (etp x ep x pp = {size}) = {ranks}, "
        "the copies of each expert",
        source=megatron_core(
            _STATE, 1264, "expert_data_parallel_size % num_distributed_optimizer_instances"
        ),
        since="0.13",
        families=MEGATRON,
        check=_zero_replicas_experts,
    ),
    Rule(
        id="zero-replicas-stage",
        condition="zero_replicas above 1 needs something to shard: zero_stage 1 or more",
        message="{replicas} groups of shards, but zero_stage 0 shards nothing",
        source=ours("Megatron's --num-distributed-optimizer-instances counts optimizer shards"),
        check=_zero_replicas_stage,
    ),
)
