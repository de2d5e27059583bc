"""Rules on mixture-of-experts models: how experts are spread, and how tokens find them."""

from orchestrator.rules.change import Change, change, changes, divisors, nearby
from orchestrator.rules.rule import (
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Subject,
    megatron_core,
)


def _no_experts(subject: Subject) -> Breaches:
    layout = subject.layout
    if subject.run.model.moe is not None or (layout.ep == 1 and layout.etp == 1):
        return PASS
    axis, other = ("ep", "etp") if layout.ep > 1 else ("etp", "ep")
    said = {"degree": getattr(layout, axis), "model": subject.run.model.name}
    # Both go: a dense model has neither.
    values = ((f"layout.{axis}", 1), (f"layout.{other}", 1))
    return (Breach(key=f"layout.{axis}", said=said, passing=(Change(values=values),)),)


def _ep_experts(subject: Subject) -> Breaches:
    ep, moe = subject.layout.ep, subject.run.model.moe
    if moe is None or moe.num_experts % ep == 0:
        return PASS
    fits = nearby(divisors(moe.num_experts), near=ep, fits=lambda _: True)
    said = {"ep": ep, "experts": moe.num_experts}
    return (Breach(key="layout.ep", said=said, passing=changes("layout.ep", fits)),)


def _expert_biases(subject: Subject) -> Breaches:
    model, etp = subject.run.model, subject.layout.etp
    if model.moe is None or not model.linear_bias or etp == 1:
        return PASS
    said = {"etp": etp, "model": model.name}
    return (Breach(key="layout.etp", said=said, passing=changes("layout.etp", (1,))),)


def _shared_expert_biases(subject: Subject) -> Breaches:
    model = subject.run.model
    if model.moe is None or not model.linear_bias:
        return PASS
    if model.moe.shared_expert_intermediate_size == 0:
        return PASS
    passing = (
        change("model.linear_bias", value=False),
        change("model.moe.shared_expert_intermediate_size", 0),
    )
    return (Breach(key="model.linear_bias", said={"model": model.name}, passing=passing),)


def _experts_sequence_parallel(subject: Subject) -> Breaches:
    layout = subject.layout
    if subject.run.model.moe is None or layout.tp == 1 or layout.sequence_parallel:
        return PASS
    passing = (change("layout.sequence_parallel", value=True), change("layout.tp", 1))
    said = {"tp": layout.tp}
    return (Breach(key="layout.sequence_parallel", said=said, passing=passing),)


def _expert_bias_score(subject: Subject) -> Breaches:
    moe = subject.run.model.moe
    if moe is None or not moe.expert_bias or moe.score_function == "sigmoid":
        return PASS
    passing = (
        change("model.moe.score_function", "sigmoid"),
        change("model.moe.expert_bias", value=False),
    )
    said = {"score": moe.score_function}
    return (Breach(key="model.moe.score_function", said=said, passing=passing),)


def _router_groups(subject: Subject) -> Breaches:
    moe = subject.run.model.moe
    if moe is None or moe.num_groups is None or moe.num_experts % moe.num_groups == 0:
        return PASS
    fits = nearby(divisors(moe.num_experts), near=moe.num_groups, fits=lambda _: True)
    said = {"groups": moe.num_groups, "experts": moe.num_experts}
    passing = changes("model.moe.num_groups", fits)
    return (Breach(key="model.moe.num_groups", said=said, passing=passing),)


def _router_group_topk(subject: Subject) -> Breaches:
    moe = subject.run.model.moe
    if moe is None or moe.group_topk is None or moe.num_groups is None:
        return PASS
    if moe.group_topk <= moe.num_groups:
        return PASS
    fits = nearby(range(1, moe.num_groups + 1), near=moe.group_topk, fits=lambda _: True)
    said = {"topk": moe.group_topk, "groups": moe.num_groups}
    passing = changes("model.moe.group_topk", fits)
    return (Breach(key="model.moe.group_topk", said=said, passing=passing),)


def _router_topk_in_groups(subject: Subject) -> Breaches:
    moe = subject.run.model.moe
    if moe is None or moe.group_topk is None or moe.num_groups is None:
        return PASS
    if moe.num_experts % moe.num_groups or moe.group_topk > moe.num_groups:
        return PASS  # rules of their own
    each = moe.num_experts // moe.num_groups
    groups = moe.group_topk
    if groups <= moe.router_topk <= groups * each:
        return PASS
    ends = (groups, groups * each)
    fits = nearby(ends, near=moe.router_topk, fits=lambda _: True)
    said = {"topk": moe.router_topk, "groups": groups, "each": each, "most": groups * each}
    passing = changes("model.moe.router_topk", fits)
    return (Breach(key="model.moe.router_topk", said=said, passing=passing),)


_CONFIG = "transformer/transformer_config.py"

RULES = (
    Rule(
        id="no-experts",
        condition="without experts ep and etp are 1",
        message="{degree}, but {model} has no experts",
        source=megatron_core(_CONFIG, 1049, "num_moe_experts must be non None"),
        since="0.9",
        check=_no_experts,
    ),
    Rule(
        id="ep-experts",
        condition="ep divides the experts",
        message="{ep} does not divide {experts} experts",
        source=megatron_core("transformer/moe/moe_layer.py", 101, "num_moe_experts % ep_size"),
        since="0.9",
        check=_ep_experts,
    ),
    Rule(
        id="expert-biases",
        condition="experts with biases are not cut (etp 1)",
        message="{etp}, but the experts of {model} have biases, which cannot be cut",
        source=megatron_core(_CONFIG, 1591, "Bias in Moe is only supported when ETP==1"),
        since="0.15",
        families=MEGATRON,
        check=_expert_biases,
    ),
    Rule(
        id="shared-expert-biases",
        condition="shared experts have no biases",
        message="true, but {model} has shared experts, which have none in Megatron",
        source=megatron_core(
            "transformer/moe/shared_experts.py", 47, "bias is not supported in the shared experts"
        ),
        since="0.10",
        families=MEGATRON,
        check=_shared_expert_biases,
    ),
    Rule(
        id="experts-sequence-parallel",
        condition="experts with tp above 1 use sequence parallelism",
        message="false, but experts with tp {tp} need it (refused at the first step)",
        source=megatron_core("transformer/moe/moe_layer.py", 381, "performance may degrade if MoE"),
        since="0.9",
        families=MEGATRON,
        check=_experts_sequence_parallel,
    ),
    Rule(
        id="expert-bias-score",
        condition="routing corrected by a bias scores with a sigmoid",
        message="{score}, but expert_bias goes with sigmoid alone",
        source=megatron_core(_CONFIG, 1595, "Expert bias for aux-loss-free routing only supports"),
        since="0.11",
        families=MEGATRON,
        check=_expert_bias_score,
    ),
    Rule(
        id="router-groups",
        condition="the groups of a router divide the experts",
        message="{groups} groups do not divide {experts} experts",
        source=megatron_core(_CONFIG, 1654, "self.num_moe_experts % self.moe_router_num_groups"),
        since="0.11",
        families=MEGATRON,
        check=_router_groups,
    ),
    Rule(
        id="router-group-topk",
        condition="a token meets no more groups than there are",
        message="{topk} groups a token, of {groups}",
        source=megatron_core(_CONFIG, 1658, "self.moe_router_group_topk <= self.moe_router_num"),
        since="0.11",
        families=MEGATRON,
        check=_router_group_topk,
    ),
    Rule(
        id="router-topk-in-groups",
        condition="the experts of a token are at least one, at most all, of each of its groups",
        message="{topk} experts a token do not fit into {groups} groups of {each}: "
        "{groups} to {most}",
        source=megatron_core("transformer/moe/moe_utils.py", 554, "topk(topk // group_topk"),
        since="0.11",
        families=MEGATRON,
        check=_router_topk_in_groups,
    ),
)
