"""Rules on `engine.arguments`: options of Megatron that do not go together, or do nothing.

A release's parser is asked elsewhere whether an option exists; this is about what `validate_args`
and `TransformerConfig` say of those that do.
"""

from collections.abc import Callable

from orchestrator.rules.change import Change, change
from orchestrator.rules.rule import (
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Severity,
    Source,
    Subject,
    megatron_arguments,
    megatron_core,
)
from orchestrator.specs.choices import Fp8Recipe, Precision, RecomputeGranularity

_KEY = "engine.arguments"

_Holds = Callable[[Subject], bool]


def _words(subject: Subject) -> tuple[str, ...]:
    return subject.run.spec.engine.arguments


def _without(words: tuple[str, ...], flag: str) -> Change:
    """Return the arguments without an option and its own words."""
    kept: list[str] = []
    is_dropped = False
    for word in words:
        if word.startswith("--"):
            is_dropped = word == flag
        if not is_dropped:
            kept.append(word)
    return change(_KEY, tuple(kept))


def _needs(flag: str, *others: str) -> Callable[[Subject], Breaches]:
    """Return a check that an option comes with one of others."""

    def check(subject: Subject) -> Breaches:
        words = _words(subject)
        if flag not in words or any(other in words for other in others):
            return PASS
        passing = (change(_KEY, (*words, others[0])), _without(words, flag))
        return (Breach(key=_KEY, said={"flag": flag, "other": others[0]}, passing=passing),)

    return check


def _excludes(flag: str, *others: str) -> Callable[[Subject], Breaches]:
    """Return a check that an option comes without others."""

    def check(subject: Subject) -> Breaches:
        words = _words(subject)
        found = next((other for other in others if other in words), None)
        if flag not in words or found is None:
            return PASS
        passing = (_without(words, flag), _without(words, found))
        return (Breach(key=_KEY, said={"flag": flag, "other": found}, passing=passing),)

    return check


def _only_where(flag: str, holds: _Holds) -> Callable[[Subject], Breaches]:
    """Return a check that an option comes where something else of the run file holds."""

    def check(subject: Subject) -> Breaches:
        words = _words(subject)
        if flag not in words or holds(subject):
            return PASS
        return (Breach(key=_KEY, said={"flag": flag}, passing=(_without(words, flag),)),)

    return check


def _never(flag: str) -> Callable[[Subject], Breaches]:
    return _only_where(flag, lambda _: False)


def _te_cross_entropy(subject: Subject) -> Breaches:
    words = _words(subject)
    flag = "--cross-entropy-fusion-impl"
    if flag not in words or words[words.index(flag) + 1 :][:1] != ("te",):
        return PASS
    before = ("", *words)
    native = tuple(
        "native" if last == flag else word for last, word in zip(before, words, strict=False)
    )
    passing = (change(_KEY, native), _without(words, flag))
    return (Breach(key=_KEY, passing=passing),)


def _is_fp8(subject: Subject) -> bool:
    return subject.run.training.precision is Precision.FP8


def _is_fp8_sharded(subject: Subject) -> bool:
    return _is_fp8(subject) and subject.layout.zero_stage > 0


def _is_not_delayed(subject: Subject) -> bool:
    return subject.run.training.fp8_recipe is not Fp8Recipe.DELAYED


def _has_no_pipeline_nor_recompute(subject: Subject) -> bool:
    layout = subject.layout
    return layout.pp == 1 and layout.recompute.granularity is RecomputeGranularity.NONE


def _distributes_saved(subject: Subject) -> bool:
    layout = subject.layout
    full = layout.recompute.granularity is RecomputeGranularity.FULL
    return layout.tp > 1 and full and not layout.sequence_parallel


def _recomputes_no_shared_experts(subject: Subject) -> bool:
    return "shared_experts" not in subject.layout.recompute.modules


_CONFIG = "transformer/transformer_config.py"


def _rule(  # noqa: PLR0913  the columns of the table
    id: str,  # noqa: A002
    condition: str,
    message: str,
    source: Source,
    check: Callable[[Subject], Breaches],
    *,
    since: str = "0.16",
    severity: Severity = Severity.ERROR,
) -> Rule:
    return Rule(
        id=id,
        condition=condition,
        message=message,
        source=source,
        check=check,
        since=since,
        severity=severity,
        families=MEGATRON,
    )


RULES = (
    _rule(
        "async-save-worker",
        "--async-save comes with --use-persistent-ckpt-worker",
        "{flag} without {other} is switched off with a warning: every save would stop training",
        megatron_arguments(1139, "if not args.use_persistent_ckpt_worker"),
        _needs("--async-save", "--use-persistent-ckpt-worker"),
        severity=Severity.WARNING,
    ),
    _rule(
        "rampup-ignored",
        "from Megatron 0.18 on, a ramp is given as training.batch_ramp",
        "{flag} is taken and ignored since 0.18: training would begin with the full batch; "
        "write training.batch_ramp",
        Source(
            document="Megatron-LM core_v0.18.2 megatron/training/config/training_config.py",
            line=21,
            words="rampup_batch_size: list[int] | None",
        ),
        _never("--rampup-batch-size"),
        since="0.18",
        severity=Severity.WARNING,
    ),
    _rule(
        "rampup-iterations",
        "a ramp is given as training.batch_ramp, so that steps are counted with it",
        "{flag} is refused with --train-iters, and would not be counted by the plan; "
        "write training.batch_ramp",
        megatron_arguments(766, "expected no batch-size rampup for iteration-based training"),
        _never("--rampup-batch-size"),
    ),
    _rule(
        "fp16-bf16",
        "one precision is given",
        "{flag} beside training.precision: Megatron takes one of FP16 and BF16",
        megatron_arguments(712, "assert not args.fp16"),
        _only_where("--fp16", lambda s: s.run.training.precision is Precision.FP32),
    ),
    _rule(
        "fp4-fp8",
        "FP4 and FP8 are not used together",
        "{flag} with precision fp8: Megatron takes one of FP4 and FP8",
        megatron_arguments(661, "--fp4-format and --fp8-format cannot be used simultaneously"),
        _only_where("--fp4-format", lambda s: not _is_fp8(s)),
    ),
    _rule(
        "fp8-param-gather",
        "--fp8-param-gather needs precision fp8 and a sharded optimizer",
        "{flag} needs precision fp8 and zero_stage 1 or more",
        megatron_arguments(657, "--fp8-param-gather only supported with distributed optimizer"),
        _only_where("--fp8-param-gather", _is_fp8_sharded),
    ),
    _rule(
        "first-last-bf16",
        "the first and last layers stay in BF16 with any FP8 recipe but delayed",
        "{flag} does not go with fp8_recipe delayed",
        megatron_core(_CONFIG, 991, "Delayed scaling does not support first / last layer in BF16"),
        _only_where("--first-last-layers-bf16", _is_not_delayed),
    ),
    _rule(
        "router-padding-fp8",
        "padding a router's tokens for quantization needs FP8",
        "{flag} needs precision fp8",
        megatron_core(_CONFIG, 1624, "fp8/fp4 must be specified when moe_router_padding"),
        _only_where("--moe-router-padding-for-quantization", _is_fp8),
    ),
    _rule(
        "precision-aware-optimizer",
        "a precision-aware optimizer is a sharded one",
        "{flag} needs zero_stage 1 or more",
        megatron_core(
            "optimizer/optimizer_config.py",
            381,
            "-aware-optimizer only supported with distributed",
        ),
        _only_where("--use-precision-aware-optimizer", lambda s: s.layout.zero_stage > 0),
    ),
    _rule(
        "optimizer-offload",
        "an offloaded optimizer is precision-aware",
        "{flag} needs {other}",
        megatron_arguments(1191, "assert args.use_precision_aware_optimizer"),
        _needs("--optimizer-cpu-offload", "--use-precision-aware-optimizer"),
    ),
    _rule(
        "distribute-saved",
        "saved activations are spread over tp with full recomputation and without sequence "
        "parallelism",
        "{flag} needs tp above 1, recompute full and no sequence_parallel",
        megatron_arguments(885, "assert args.tensor_model_parallel_size > 1, 'can distribute"),
        _only_where("--distribute-saved-activations", _distributes_saved),
    ),
    _rule(
        "cpu-offloading",
        "layers are offloaded without a pipeline and without recomputation",
        "{flag} needs pp 1 and no recompute",
        megatron_core(_CONFIG, 1146, "no support for Pipeline parallelism with CPU offloading"),
        _only_where("--cpu-offloading-num-layers", _has_no_pipeline_nor_recompute),
    ),
    _rule(
        "delayed-wgrad",
        "weight gradients are delayed beside overlapped expert communication",
        "{flag} needs {other}",
        megatron_core(_CONFIG, 1912, "must be enabled when enabling delay_wgrad_compute"),
        _needs("--delay-wgrad-compute", "--overlap-moe-expert-parallel-comm"),
    ),
    _rule(
        "shared-expert-overlap",
        "shared experts are either overlapped or recomputed",
        "{flag} does not go with recomputing shared_experts",
        megatron_core(_CONFIG, 1238, "shared_experts recompute cannot work with"),
        _only_where("--moe-shared-expert-overlap", _recomputes_no_shared_experts),
    ),
    _rule(
        "deterministic",
        "a deterministic run fuses neither attention nor cross entropy",
        "{flag} does not go with {other}",
        megatron_arguments(1075, "Cross Entropy Fusion is currently not deterministic"),
        _excludes("--deterministic-mode", "--cross-entropy-loss-fusion", "--use-flash-attn"),
    ),
    _rule(
        "fake-group-flex",
        "a fake process group goes without the flex dispatcher's kernels",
        "{flag} does not go with {other}",
        megatron_arguments(1107, "Fake process group is not supported with flex"),
        _excludes("--fake-process-group", "--moe-enable-deepep"),
    ),
    _rule(
        "cross-entropy-te",
        "from Megatron 0.18 on, cross entropy is fused natively",
        "--cross-entropy-fusion-impl te is refused since 0.18",
        megatron_arguments(1531, "cross entropy loss fusion is disabled", tag="core_v0.18.2"),
        _te_cross_entropy,
        since="0.18",
    ),
)
