"""Rules that DeepSpeed alone asks: offload, formats of gradients, and Ulysses."""

from orchestrator.rules.change import change, changes
from orchestrator.rules.rule import (
    DEEPSPEED,
    PASS,
    Breach,
    Breaches,
    Rule,
    Source,
    Subject,
    ours,
)
from orchestrator.specs.choices import CpCommType, Offload


def _offload_stage(subject: Subject) -> Breaches:
    layout = subject.layout
    least = {Offload.NONE: 0, Offload.OPTIMIZER: 1, Offload.PARAMETERS: 3}[layout.offload]
    if layout.zero_stage >= least:
        return PASS
    said = {"offload": layout.offload, "least": least, "stage": layout.zero_stage}
    passing = (
        *(changes("layout.zero_stage", (least,)) if layout.pp == 1 or least == 1 else ()),
        change("layout.offload", Offload.NONE.value),
    )
    return (Breach(key="layout.offload", said=said, passing=passing),)


def _gradient_format(subject: Subject) -> Breaches:
    """DeepSpeed sums up in FP32, or in BF16 beside BF16 weights; without ZeRO as the weights."""
    training, stage = subject.run.training, subject.layout.zero_stage
    weights, gradients = training.precision.value, training.numerics.gradients
    if gradients == weights or (gradients == "fp32" and stage > 0):
        return PASS
    key = "training.numerics.gradients"
    said = {"gradients": gradients, "precision": weights, "stage": stage}
    formats = [one for one in ("fp32", "bf16") if one == weights or (one == "fp32" and stage > 0)]
    sharded = (change("layout.zero_stage", 1),) if gradients == "fp32" else ()
    return (Breach(key=key, said=said, passing=(*changes(key, formats), *sharded)),)


def _ulysses_exchange(subject: Subject) -> Breaches:
    kind = subject.layout.cp_comm_type
    if subject.layout.cp == 1 or kind in {None, CpCommType.ALL_TO_ALL}:
        return PASS
    passing = changes("layout.cp_comm_type", (CpCommType.ALL_TO_ALL.value,))
    return (Breach(key="layout.cp_comm_type", said={"kind": kind}, passing=passing),)


def _ulysses_pipeline(subject: Subject) -> Breaches:
    cp, pp = subject.layout.cp, subject.layout.pp
    if cp == 1 or pp == 1:
        return PASS
    passing = (change("layout.cp", 1), change("layout.pp", 1))
    return (Breach(key="layout.cp", said={"cp": cp, "pp": pp}, passing=passing),)


RULES = (
    Rule(
        id="offload-stage",
        condition="an offloaded optimizer is sharded (ZeRO 1 to 3), offloaded weights too (3)",
        message="{offload} needs zero_stage {least} or more, not {stage}",
        source=ours("DeepSpeed reads both blocks in a sharded optimizer, and of weights in ZeRO 3"),
        families=DEEPSPEED,
        check=_offload_stage,
    ),
    Rule(
        id="gradient-format",
        condition="DeepSpeed accumulates gradients in FP32, or in BF16 beside BF16 weights; "
        "without ZeRO in the weights' format",
        message="{gradients} with precision {precision} and zero_stage {stage}: DeepSpeed raises",
        source=Source(
            document="deepspeed 0.19.8 deepspeed/runtime/engine.py",
            line=2323,
            words="unsupported mix of",
        ),
        families=DEEPSPEED,
        check=_gradient_format,
    ),
    Rule(
        id="ulysses-exchange",
        condition="DeepSpeed's cp exchanges heads for sequence: cp_comm_type is a2a",
        message="{kind}, but DeepSpeed's sequence parallelism (Ulysses) knows a2a alone",
        source=ours("DistributedAttention is two all-to-alls around any attention"),
        families=DEEPSPEED,
        check=_ulysses_exchange,
    ),
    Rule(
        id="ulysses-pipeline",
        condition="DeepSpeed's cp (Ulysses) goes without a pipeline",
        message="{cp} with pp {pp}: a pipeline takes no group of ranks that share a sequence",
        source=Source(
            document="deepspeed 0.19.8 deepspeed/__init__.py",
            line=582,
            words="mpu must be None with pipeline parallelism",
        ),
        families=DEEPSPEED,
        check=_ulysses_pipeline,
    ),
)
