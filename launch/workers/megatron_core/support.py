"""What of a well-formed configuration this worker cannot run, before any engine is imported.

Nothing is ignored: what is not supported is refused by name. Megatron asks some of this itself,
at the first step and as a crash; asked here it is an answer.
"""

from collections.abc import Iterator

from launch.workers.megatron_core.arguments import (
    ENGINE,
    SCHEMA,
    Arguments,
    Granularity,
    ModelArguments,
    MoeArguments,
    PositionEmbedding,
    Precision,
    RecomputeArguments,
    RouterScore,
)
from orchestrator.errors import EngineRefused, Problem


def require_support(arguments: Arguments, *, world_size: int) -> None:
    """Refuse what this worker does not do, or what a world of that size cannot hold.

    Raises:
        EngineRefused: names every problem.
    """
    problems = [str(problem) for problem in _problems(arguments, world_size)]
    if problems:
        raise EngineRefused(engine=ENGINE, reason="\n".join(problems))


def _problems(arguments: Arguments, world_size: int) -> Iterator[Problem]:
    if arguments.schema != SCHEMA:
        yield Problem(key="schema", message=f"{arguments.schema} is not {SCHEMA}")
    yield from _refused_by_name(arguments)
    yield from _refused_recompute(arguments.recompute)
    sizes = [*_refused_by_size(arguments)]
    if not sizes:
        sizes = [*_refused_experts(arguments), *_refused_chunks(arguments)]
    yield from sizes
    if not sizes:
        yield from _refused_by_world(arguments, world_size)


def _refused_by_name(arguments: Arguments) -> Iterator[Problem]:
    parallel, training = arguments.parallel, arguments.training
    if training.fp8_recipe is not None and training.precision is not Precision.FP8:
        message = f"{training.fp8_recipe}: of no use when precision is {training.precision}"
        yield Problem(key="training.fp8_recipe", message=message)
    if parallel.zero_stage not in (0, 1):
        message = f"{parallel.zero_stage} needs Megatron-FSDP, which this worker does not run"
        hint = "possible: 0 (every rank keeps the optimizer state), 1 (distributed optimizer)"
        yield Problem(key="parallel.zero_stage", message=message, possible=hint)
    if parallel.sequence_parallel and parallel.tp == 1:
        message = "sequence parallelism divides activations over tp, and tp is 1"
        yield Problem(key="parallel.sequence_parallel", message=message)
    if parallel.vpp > 1 and parallel.pp == 1:
        message = f"{parallel.vpp} chunks need a pipeline, and pp is 1"
        yield Problem(key="parallel.vpp", message=message)


def _refused_recompute(recompute: RecomputeArguments) -> Iterator[Problem]:
    """Say which setting would not be honoured at this granularity."""
    granularity = recompute.granularity
    is_selective = granularity is Granularity.SELECTIVE
    if is_selective and not recompute.modules:
        yield Problem(key="recompute.modules", message="empty, and selective recompute needs some")
    if recompute.modules and not is_selective:
        message = f"{', '.join(recompute.modules)}: of no use when granularity is {granularity}"
        yield Problem(key="recompute.modules", message=message)
    if recompute.layers is not None and granularity is not Granularity.FULL:
        message = f"{recompute.layers}: of no use when granularity is {granularity}"
        yield Problem(key="recompute.layers", message=message)


def _refused_by_size(arguments: Arguments) -> Iterator[Problem]:
    model, parallel, training = arguments.model, arguments.parallel, arguments.training
    for key, value, at_least in (
        ("parallel.tp", parallel.tp, 1),
        ("parallel.pp", parallel.pp, 1),
        ("parallel.vpp", parallel.vpp, 1),
        ("parallel.cp", parallel.cp, 1),
        ("parallel.ep", parallel.ep, 1),
        ("parallel.etp", parallel.etp, 1),
        ("training.micro_batch_size", training.micro_batch_size, 1),
        ("training.global_batch_size", training.global_batch_size, 1),
        ("training.sequence_length", training.sequence_length, 1),
        ("training.steps", training.steps, 0),
        ("checkpoint.interval_steps", arguments.checkpoint.interval_steps, 1),
    ):
        if value < at_least:
            yield Problem(key=key, message=f"{value} is below {at_least}")
    if model.num_query_groups < 1 or model.num_attention_heads % model.num_query_groups:
        message = f"{model.num_query_groups} does not divide {model.num_attention_heads} heads"
        yield Problem(key="model.num_query_groups", message=message)
    if training.sequence_length > model.max_sequence_length:
        message = f"{training.sequence_length} is above the model's {model.max_sequence_length}"
        hint = "train shorter sequences, or a model with a larger max_sequence_length"
        yield Problem(key="training.sequence_length", message=message, possible=hint)
    if max(model.vocab_size, arguments.data.end_of_document + 1) > model.padded_vocab_size:
        message = f"{model.padded_vocab_size} is below the vocabulary it pads"
        hint = "use the model's own tokenizer; vocab_padding_multiple rounds its size up"
        yield Problem(key="model.padded_vocab_size", message=message, possible=hint)
    if model.position_embedding is PositionEmbedding.ROPE and model.rotary_base is None:
        yield Problem(key="model.rotary_base", message="missing, and rope needs it")
    if model.position_embedding is not PositionEmbedding.ROPE and model.rope_scaling_factor:
        message = f"{model.rope_scaling_factor}: of no use without rope"
        yield Problem(key="model.rope_scaling_factor", message=message)


def _refused_experts(arguments: Arguments) -> Iterator[Problem]:
    parallel, moe = arguments.parallel, arguments.model.moe
    if moe is None:
        for axis, degree in (("ep", parallel.ep), ("etp", parallel.etp)):
            if degree > 1:
                message = f"{degree} ranks would share experts, and the model has none"
                yield Problem(key=f"parallel.{axis}", message=message)
        return
    yield from _refused_router(arguments.model, moe)
    if moe.num_experts % parallel.ep:
        message = f"{parallel.ep} does not divide {moe.num_experts} experts"
        yield Problem(key="parallel.ep", message=message)
    if parallel.tp > 1 and not parallel.sequence_parallel:
        message = "false, and experts with tp above 1 need it"
        yield Problem(key="parallel.sequence_parallel", message=message)
    if arguments.model.linear_bias and parallel.etp > 1:
        message = f"{parallel.etp}, and experts with biases cannot be split"
        yield Problem(key="parallel.etp", message=message, possible="possible: 1")


def _refused_router(model: ModelArguments, moe: MoeArguments) -> Iterator[Problem]:
    if len(moe.layers) != model.num_layers:
        message = f"{len(moe.layers)} entries for {model.num_layers} layers"
        yield Problem(key="model.moe.layers", message=message)
    if not 1 <= moe.router_topk <= moe.num_experts:
        message = f"{moe.router_topk} of {moe.num_experts} experts"
        yield Problem(key="model.moe.router_topk", message=message)
    if moe.expert_bias_update_rate is not None and moe.router_score is not RouterScore.SIGMOID:
        message = f"{moe.router_score}, and a router with expert biases needs sigmoid"
        yield Problem(key="model.moe.router_score", message=message)


def _refused_chunks(arguments: Arguments) -> Iterator[Problem]:
    """Say where the sequence cannot be cut as the layout asks."""
    parallel, length = arguments.parallel, arguments.training.sequence_length
    key = "training.sequence_length"
    if parallel.cp > 1 and length % (2 * parallel.cp):
        message = f"{length} is not a multiple of 2 x cp = {2 * parallel.cp}"
        yield Problem(key=key, message=message)
    elif parallel.sequence_parallel and (length // parallel.cp) % parallel.tp:
        message = f"{length} / cp = {length // parallel.cp} is not a multiple of tp {parallel.tp}"
        yield Problem(key=key, message=message)


def _refused_by_world(arguments: Arguments, world_size: int) -> Iterator[Problem]:
    parallel, training = arguments.parallel, arguments.training
    for axes, ranks in (
        ("tp x cp x pp", parallel.tp * parallel.cp * parallel.pp),
        ("etp x ep x pp", parallel.etp * parallel.ep * parallel.pp),
    ):
        if world_size % ranks:
            message = f"{axes} = {ranks} does not divide {world_size} ranks"
            yield Problem(key="parallel", message=message)
            return
    at_once = training.micro_batch_size * arguments.dp(world_size)
    if training.global_batch_size % at_once:
        message = f"{training.global_batch_size} is not a multiple of micro batch x dp = {at_once}"
        yield Problem(key="training.global_batch_size", message=message)
    elif parallel.vpp > 1:
        yield from _refused_interleaving(arguments, arguments.num_microbatches(world_size))


def _refused_interleaving(arguments: Arguments, num_microbatches: int) -> Iterator[Problem]:
    """Say what the interleaved schedule asks of its microbatches."""
    key, pp = "parallel.microbatch_group_size", arguments.parallel.pp
    group = arguments.parallel.microbatch_group_size or pp
    if not pp <= group <= num_microbatches:
        message = f"{group} is not between pp = {pp} and {num_microbatches} microbatches"
        yield Problem(key=key, message=message)
    elif 0 < (left := num_microbatches % group) < pp:
        message = (
            f"groups of {group} leave {left} of {num_microbatches} microbatches, below pp = {pp}"
        )
        yield Problem(key=key, message=message)
