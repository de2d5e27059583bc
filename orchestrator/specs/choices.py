"""The words a user can choose between."""

from enum import StrEnum


class Precision(StrEnum):
    """Number format of the matrix products; states keep FP32 master values (but FP32)."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"


class Fp8Recipe(StrEnum):
    """How FP8 scales are chosen (Transformer Engine's recipes, in Megatron's spelling)."""

    DELAYED = "delayed"
    TENSORWISE = "tensorwise"
    BLOCKWISE = "blockwise"
    MXFP8 = "mxfp8"


class DecayStyle(StrEnum):
    """The learning rate's shape after its warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"
    INVERSE_SQUARE_ROOT = "inverse-square-root"
    WSD = "wsd"


class WsdDecayStyle(StrEnum):
    """How the rate falls at the end of warm-up, stable, decay (wsd)."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    COSINE = "cosine"
    MINUS_SQRT = "minus-sqrt"


class RecomputeGranularity(StrEnum):
    """How much of the forward pass is done again in the backward pass."""

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


class ScheduleKind(StrEnum):
    """Order of microbatches in the pipeline."""

    NO_PIPELINE = "no-pipeline"
    ONE_F_ONE_B = "1f1b"
    INTERLEAVED = "interleaved-1f1b"
    GPIPE = "gpipe"
    COMBINED = "combined-1f1b"
    LOOPED_BFS = "looped-bfs"
    ZERO_BUBBLE = "interleaved-zero-bubble"
    ZB_V = "zb-v"
    DUAL_PIPE_V = "dualpipe-v"


class Offload(StrEnum):
    """What goes to host memory; `parameters` takes the optimizer's states along."""

    NONE = "none"
    OPTIMIZER = "optimizer"
    PARAMETERS = "parameters"


class OverlapAxis(StrEnum):
    """A parallel axis whose communication hides behind computation."""

    TP = "tp"
    DP = "dp"
    PP = "pp"


class CpCommType(StrEnum):
    """How context parallelism moves keys and values (Megatron's `--cp-comm-type`)."""

    P2P = "p2p"
    ALL_GATHER = "allgather"
    ALL_TO_ALL = "a2a"


class Binding(StrEnum):
    """Which processors a rank gets; `auto` is the NUMA node of its GPU, where that is known."""

    AUTO = "auto"
    NONE = "none"
    NUMA = "numa"
    CORES = "cores"


class Start(StrEnum):
    """How a rank's process begins: forked from one that has imported the engine, or by itself."""

    WARM = "warm"
    COLD = "cold"


class Via(StrEnum):
    """What starts the processes."""

    LOCAL = "local"
    SSH = "ssh"


class StarterKind(StrEnum):
    """What starts the ranks of a host: our agent, supervised, or torch's launcher, alone."""

    AGENT = "agent"
    TORCHRUN = "torchrun"
