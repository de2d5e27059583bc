"""Rules on the model: what tensor parallelism cuts must divide."""

from orchestrator.records.engine import release
from orchestrator.records.run import padded_vocab_size
from orchestrator.rules.change import Change, change, changes, divisors, nearby
from orchestrator.rules.rule import (
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Severity,
    Subject,
    megatron_arguments,
    megatron_core,
    ours,
)
from orchestrator.specs.model import ModelCard
from orchestrator.specs.training import TrainingSpec

_COPIES_GROUPS = (0, 16)
"""The release from which on Megatron gives several ranks the same query group."""


def _tp_heads(subject: Subject) -> Breaches:
    tp, model = subject.layout.tp, subject.run.model
    heads = model.num_attention_heads
    if heads % tp == 0:
        return PASS
    domain = subject.run.machine.cluster.scale_up_domain_gpus
    fits = tuple(value for value in divisors(heads) if value <= 4 * domain)
    said = {"tp": tp, "heads": heads, "model": model.name}
    advice = f"on {domain}-GPU hosts use {domain} or less"
    return (Breach(key="layout.tp", said=said, passing=changes("layout.tp", fits), advice=advice),)


def _tp_query_groups(subject: Subject) -> Breaches:
    tp, model = subject.layout.tp, subject.run.model
    groups = model.num_query_groups
    if model.mla is not None or groups % tp == 0 or tp % groups == 0:
        return PASS
    heads = divisors(model.num_attention_heads)
    fits = nearby(heads, near=tp, fits=lambda d: groups % d == 0 or d % groups == 0)
    said = {"tp": tp, "groups": groups, "model": model.name}
    return (Breach(key="layout.tp", said=said, passing=changes("layout.tp", fits)),)


def _tp_query_groups_divide(subject: Subject) -> Breaches:
    tp, model = subject.layout.tp, subject.run.model
    groups = model.num_query_groups
    if groups % tp == 0 or tp % groups or model.mla is not None:
        return PASS
    if subject.version == "any" or release(subject.version) >= _COPIES_GROUPS:
        return PASS
    said = {"tp": tp, "groups": groups, "version": subject.version}
    fits = nearby(divisors(groups), near=tp, fits=lambda _: True)
    return (Breach(key="layout.tp", said=said, passing=changes("layout.tp", fits)),)


def _tp_ffn(subject: Subject) -> Breaches:
    tp, model = subject.layout.tp, subject.run.model
    width = model.ffn_hidden_size
    if width % tp == 0:
        return PASS
    fits = nearby(divisors(width), near=tp, fits=lambda d: model.num_attention_heads % d == 0)
    said = {"tp": tp, "width": width, "model": model.name}
    return (Breach(key="layout.tp", said=said, passing=changes("layout.tp", fits)),)


def _etp_ffn(subject: Subject) -> Breaches:
    etp, moe = subject.layout.etp, subject.run.model.moe
    if moe is None or moe.moe_ffn_hidden_size % etp == 0:
        return PASS
    width = moe.moe_ffn_hidden_size
    fits = nearby(divisors(width), near=etp, fits=lambda _: True)
    said = {"etp": etp, "width": width}
    return (Breach(key="layout.etp", said=said, passing=changes("layout.etp", fits)),)


def _tp_shared_experts(subject: Subject) -> Breaches:
    tp, moe = subject.layout.tp, subject.run.model.moe
    if moe is None or moe.shared_expert_intermediate_size % tp == 0:
        return PASS
    width = moe.shared_expert_intermediate_size
    fits = nearby(divisors(width), near=tp, fits=lambda _: True)
    said = {"tp": tp, "width": width}
    return (Breach(key="layout.tp", said=said, passing=changes("layout.tp", fits)),)


def _nope_interval(subject: Subject) -> Breaches:
    model = subject.run.model
    every, layers = model.nope_layer_interval, model.num_layers
    if every is None or layers % every == 0:
        return PASS
    fits = nearby(divisors(layers), near=every, fits=lambda _: True)
    said = {"every": every, "layers": layers}
    passing = changes("model.nope_layer_interval", fits)
    return (Breach(key="model.nope_layer_interval", said=said, passing=passing),)


def _mtp_positions(subject: Subject) -> Breaches:
    model = subject.run.model
    if model.mtp_num_layers == 0 or model.position_embedding == "rope":
        return PASS
    said = {"depths": model.mtp_num_layers, "positions": model.position_embedding}
    passing = (
        Change(values=(("model.position_embedding", "rope"), ("model.rotary_base", 10_000))),
        change("model.mtp_num_layers", 0),
    )
    return (Breach(key="model.position_embedding", said=said, passing=passing),)


def _padded_vocabulary(subject: Subject) -> Breaches:
    run, tp = subject.run, subject.layout.tp
    if run.spec.checkpoint is None:
        return PASS
    model, training = run.model, run.training
    degrees = _other_degrees(subject)
    if _is_one_size(model, training, degrees):
        return PASS
    own = padded_vocab_size(model, training, tp=tp)
    other, size = next(
        (degree, size)
        for degree in degrees
        if (size := padded_vocab_size(model, training, tp=degree)) != own
    )
    said = {
        "vocabulary": model.vocab_size,
        "own": own,
        "tp": tp,
        "size": size,
        "other": other,
        "product": training.vocab_padding_multiple * tp,
    }
    key = "training.vocab_padding_multiple"
    # The widest cut's padding, made of equal parts, is the size of every narrower cut as well.
    fits = padded_vocab_size(model, training, tp=degrees[-1]) // degrees[-1]
    wider = training.model_copy(update={"vocab_padding_multiple": fits})
    passing = changes(key, (fits,)) if _is_one_size(model, wider, degrees) else ()
    return (Breach(key=key, said=said, passing=passing, advice="or keep tp for the whole run"),)


def _other_degrees(subject: Subject) -> tuple[int, ...]:
    """Return the powers of two that could be a later tp, and the one that is now, ascending."""
    heads = subject.run.model.num_attention_heads
    most = min(subject.run.machine.cluster.scale_up_domain_gpus, subject.run.machine.world_size)
    powers = {1 << bit for bit in range(most.bit_length()) if 1 << bit <= most}
    return tuple(sorted({subject.layout.tp, *(d for d in powers if heads % d == 0)}))


def _is_one_size(model: ModelCard, training: TrainingSpec, degrees: tuple[int, ...]) -> bool:
    return len({padded_vocab_size(model, training, tp=degree) for degree in degrees}) == 1


_CONFIG = "transformer/transformer_config.py"

RULES = (
    Rule(
        id="tp-heads",
        condition="tp divides the attention heads",
        message="{tp} does not divide {heads} attention heads ({model})",
        source=megatron_core(_CONFIG, 924, "self.num_attention_heads % self.tensor_model_parallel"),
        since="0.9",
        check=_tp_heads,
    ),
    Rule(
        id="tp-query-groups",
        condition="tp divides the query groups, or is a multiple of them",
        message="{tp} neither divides nor is a multiple of {groups} query groups ({model})",
        source=megatron_core(_CONFIG, 941, "self.tensor_model_parallel_size % self.num_query"),
        since="0.9",
        check=_tp_query_groups,
    ),
    Rule(
        id="tp-query-groups-divide",
        condition="before Megatron 0.16, tp divides the query groups",
        message="{tp} does not divide {groups} query groups, and {version} cannot copy them",
        source=megatron_core(_CONFIG, 941, "self.tensor_model_parallel_size % self.num_query"),
        since="0.9",
        families=MEGATRON,
        check=_tp_query_groups_divide,
    ),
    Rule(
        id="tp-ffn",
        condition="tp divides the FFN width",
        message="{tp} does not divide the FFN width {width} ({model})",
        source=megatron_core("utils.py", 468, "numerator % denominator == 0"),
        since="0.9",
        check=_tp_ffn,
    ),
    Rule(
        id="etp-ffn",
        condition="etp divides the width of an expert",
        message="{etp} does not divide the expert width {width}",
        source=megatron_core("utils.py", 468, "numerator % denominator == 0"),
        since="0.9",
        check=_etp_ffn,
    ),
    Rule(
        id="tp-shared-experts",
        condition="tp divides the width of the shared experts",
        message="{tp} does not divide the width {width} of the shared experts",
        source=megatron_core("utils.py", 468, "numerator % denominator == 0"),
        since="0.9",
        check=_tp_shared_experts,
    ),
    Rule(
        id="nope-interval",
        condition="nope_layer_interval divides the layers",
        message="{every} does not divide {layers} layers",
        source=megatron_core(_CONFIG, 1966, "self.num_layers % self.no_rope_freq"),
        since="0.13",
        families=MEGATRON,
        check=_nope_interval,
    ),
    Rule(
        id="mtp-positions",
        condition="multi-token prediction needs rotary positions",
        message="{positions}, but {depths} depths of multi-token prediction need rope",
        source=megatron_arguments(1231, 'args.position_embedding_type == "rope"'),
        since="0.12",
        families=MEGATRON,
        check=_mtp_positions,
    ),
    Rule(
        id="padded-vocabulary",
        condition="the padded vocabulary is the same at every tp that a checkpoint may meet",
        message="{vocabulary} tokens are padded to {own} with tp {tp} and to {size} with tp "
        "{other}: a checkpoint of one does not load at the other unless vocab_padding_multiple "
        "x tp stays {product}",
        source=ours("Megatron pads to --make-vocab-size-divisible-by x tp, and saves it so"),
        severity=Severity.WARNING,
        families=MEGATRON,
        check=_padded_vocabulary,
    ),
)
