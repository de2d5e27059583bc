"""Rules on the number format: the accelerator has it, and FP8 products are aligned on each rank."""

from collections.abc import Callable, Iterator

from orchestrator.records.layout import Layout
from orchestrator.rules.change import Change, changes, divisors, multiples, nearby
from orchestrator.rules.rule import (
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Severity,
    Source,
    Subject,
    ours,
)
from orchestrator.specs.choices import Fp8Recipe, Precision
from orchestrator.specs.model import ModelCard

FP8_ALIGNMENT = 16
"""Elements: both dims of a product, so that its backward passes are aligned as well."""

BLOCK = 128
"""Elements of a block of the blockwise recipe, in both dims."""


def _accelerator(subject: Subject) -> Breaches:
    precision = subject.run.training.precision
    accelerator = subject.run.machine.accelerator
    # The two formats of 16 bits run at one rate; cards give BF16's.
    rated = Precision.BF16 if precision is Precision.FP16 else precision
    if rated in accelerator.dense_tflops:
        return PASS
    said = {"precision": precision, "accelerator": accelerator.name}
    known = sorted(one.value for one in accelerator.dense_tflops)
    key = "training.precision"
    return (Breach(key=key, said=said, passing=_without_recipe(subject, key, known)),)


def _without_recipe(subject: Subject, key: str, values: list[str]) -> tuple[Change, ...]:
    """Return changes of the precision; away from FP8 its recipe goes too."""
    if subject.run.training.fp8_recipe is None:
        return changes(key, values)
    both = ("training.fp8_recipe", None)
    return tuple(Change(values=((key, value), both)) for value in values)


def _fp8_widths(subject: Subject) -> Breaches:
    if subject.run.training.precision is not Precision.FP8:
        return PASS
    return tuple(_misaligned(subject, FP8_ALIGNMENT))


def _fp8_block_widths(subject: Subject) -> Breaches:
    if subject.run.training.fp8_recipe is not Fp8Recipe.BLOCKWISE:
        return PASS
    own = {breach.said["layer"] for breach in _misaligned(subject, FP8_ALIGNMENT)}
    return tuple(one for one in _misaligned(subject, BLOCK) if one.said["layer"] not in own)


def _misaligned(subject: Subject, step: int) -> Iterator[Breach]:
    model, layout = subject.run.model, subject.layout
    for layer, axis, width in _widths(model, layout):
        degree = getattr(layout, axis) if axis else 1
        share = width // degree
        if width % degree or share % step == 0:
            continue  # another rule says what does not divide
        fits = (
            nearby(divisors(width), near=degree, fits=_aligned(width, step), most=2) if axis else ()
        )
        cut = f" / {axis} {degree} = {share}" if axis else ""
        yield Breach(
            key=f"layout.{axis}" if axis else "model.hidden_size",
            said={"layer": layer, "width": f"{width}{cut}", "step": step},
            passing=(
                *(changes(f"layout.{axis}", fits) if axis else ()),
                *_without_recipe(subject, "training.precision", [Precision.BF16.value]),
            ),
        )


def _aligned(width: int, step: int) -> Callable[[int], bool]:
    return lambda degree: (width // degree) % step == 0


def _widths(model: ModelCard, layout: Layout) -> Iterator[tuple[str, str, int]]:
    """Give each matrix that runs in FP8: whose it is, the axis that cuts it, its uncut width.

    Embedding, output matrix and router stay in BF16 or FP32.
    """
    yield "hidden_size", "", model.hidden_size
    heads, head_dim = model.num_attention_heads, model.head_dim
    if model.mla is None:
        yield "the attention's output, heads x head_dim", "tp", heads * head_dim
        # More ranks than groups hold copies of them.
        groups = max(model.num_query_groups, layout.tp)
        qkv = (heads + 2 * groups) * head_dim
        yield "queries, keys and values, (heads + 2 x groups) x head_dim", "tp", qkv
    else:
        mla = model.mla
        yield "the attention's output, heads x v_head_dim", "tp", heads * mla.v_head_dim
        queries = mla.qk_nope_head_dim + mla.qk_rope_head_dim
        yield "the queries, heads x (qk_nope + qk_rope)", "tp", heads * queries
        keys = mla.qk_nope_head_dim + mla.v_head_dim
        yield "keys and values, heads x (qk_nope + v)", "tp", heads * keys
    yield "the FFN's width", "tp", model.ffn_hidden_size
    if model.moe is not None:
        yield "an expert's width", "etp", model.moe.moe_ffn_hidden_size
        if model.moe.shared_expert_intermediate_size:
            yield "the shared experts' width", "tp", model.moe.shared_expert_intermediate_size


def _fp8_tokens(subject: Subject) -> Breaches:
    training, layout = subject.run.training, subject.layout
    if training.precision is not Precision.FP8:
        return PASS
    cut = layout.cp * (layout.tp if layout.sequence_parallel else 1)
    tokens, rest = divmod(layout.micro_batch_size * training.sequence_length, cut)
    step = BLOCK if training.fp8_recipe is Fp8Recipe.BLOCKWISE else FP8_ALIGNMENT
    if rest or tokens % step == 0:
        return PASS
    length = "training.sequence_length"
    passing = (
        *changes(length, multiples(training.sequence_length, step * cut)),
        *_without_recipe(subject, "training.precision", [Precision.BF16.value]),
    )
    said = {
        "micro": layout.micro_batch_size,
        "length": training.sequence_length,
        "cut": cut,
        "tokens": tokens,
        "step": step,
    }
    return (Breach(key=length, said=said, passing=passing),)


def _fp8_experts(subject: Subject) -> Breaches:
    run = subject.run
    if run.training.precision is not Precision.FP8 or run.model.moe is None:
        return PASS
    padding = ("--moe-router-padding-for-quantization", "--moe-router-padding-for-fp8")
    if any(word in padding for word in run.spec.engine.arguments):
        return PASS
    said = {"experts": run.model.moe.num_experts, "step": FP8_ALIGNMENT}
    passing = _without_recipe(subject, "training.precision", [Precision.BF16.value])
    advice = "or see that the engine pads them (Megatron's --moe-router-padding-for-quantization)"
    return (Breach(key="training.precision", said=said, passing=passing, advice=advice),)


_TE = "transformer-engine 2.9 transformer_engine/pytorch/utils.py"

RULES = (
    Rule(
        id="precision",
        condition="the accelerator has the precision",
        message="{precision} does not run on {accelerator}",
        source=ours("the rates on the accelerator's card"),
        check=_accelerator,
    ),
    Rule(
        id="fp8-widths",
        condition="with FP8, every layer's width on a rank is a multiple of 16",
        message="{layer}: {width} is not a multiple of {step}, which FP8 matrix products need",
        source=Source(document=_TE, line=443, words="the last dimension to be divisible by 16"),
        check=_fp8_widths,
    ),
    Rule(
        id="fp8-tokens",
        condition="with FP8, the tokens on a rank are a multiple of 16 (blockwise: of 128)",
        message="micro_batch_size {micro} x {length} / {cut} ranks = {tokens} tokens are not a "
        "multiple of {step}, which FP8 matrix products need",
        source=Source(document=_TE, line=443, words="the product of all dimensions except"),
        check=_fp8_tokens,
    ),
    Rule(
        id="fp8-block-widths",
        condition="with the blockwise recipe, every layer's width on a rank is a multiple of 128",
        message="{layer}: {width} is not a multiple of {step}, a block of the blockwise recipe: "
        "the last block is padded, and gathers fall back to BF16",
        source=Source(
            document="transformer-engine 2.9 "
            "transformer_engine/pytorch/tensor/float8_blockwise_tensor.py",
            line=207,
            words="inp.shape[-1] % self.block_len != 0",
        ),
        severity=Severity.WARNING,
        check=_fp8_block_widths,
    ),
    Rule(
        id="fp8-experts",
        condition="with FP8, the tokens of an expert are padded to a multiple of 16",
        message="fp8, but how many of a rank's tokens meet each of {experts} experts changes from "
        "step to step, and FP8 needs multiples of {step}",
        source=ours("Transformer Engine refuses the first product that is not aligned"),
        severity=Severity.WARNING,
        families=MEGATRON,
        check=_fp8_experts,
    ),
)
