"""The variables that ranks of Megatron run with: a function of layout and accelerator, with why."""

from dataclasses import dataclass

from orchestrator.catalog.environment import environment_of
from orchestrator.records.plan import Plan
from orchestrator.specs.choices import Precision

BEFORE_BLACKWELL = ("ampere", "hopper")
"""Where one hardware queue decides which kernel goes first (compute capability below 10)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable of every rank, and why it is set."""

    name: str
    value: str
    why: str


def variables_of(plan: Plan) -> tuple[Variable, ...]:
    """Return the variables of a plan's ranks, the cluster's network first.

    What a site must give itself (interfaces, paths of plug-ins) is not here: the generated folder
    lists it.
    """
    return (*common_variables_of(plan), *_connections(plan), *_transformer_engine(plan))


def common_variables_of(plan: Plan) -> tuple[Variable, ...]:
    """Return the variables that any engine's ranks run with: network, NCCL, torch."""
    return (*_network(plan), *_ranks(plan))


def interface_of(plan: Plan) -> tuple[Variable, ...]:
    """Return the variables of `launch.interface`, for commands that no launcher of ours starts."""
    interface = plan.run.spec.launch.interface
    if interface is None:
        return ()
    names = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
    return tuple(Variable(name=n, value=interface, why="launch.interface") for n in names)


def _network(plan: Plan) -> tuple[Variable, ...]:
    card = environment_of(plan.run.machine.cluster)
    if card is None:
        return ()
    why = f"environment {card.name}"
    return tuple(Variable(name=name, value=value, why=why) for name, value in card.env.items())


def _ranks(plan: Plan) -> tuple[Variable, ...]:
    common = (
        Variable(name="OMP_NUM_THREADS", value="1", why="ranks share the host's cores"),
        Variable(name="PYTHONFAULTHANDLER", value="1", why="a crash leaves a Python stack"),
    )
    if plan.run.machine.accelerator.architecture == "cpu":
        return common
    return (
        *common,
        Variable(
            name="TORCH_NCCL_ASYNC_ERROR_HANDLING",
            value="1",
            why="a failed collective ends the rank instead of hanging it",
        ),
        Variable(
            name="TORCH_NCCL_TRACE_BUFFER_SIZE",
            value="20000",
            why="flight recorder: the last collectives of each rank",
        ),
        Variable(
            name="TORCH_NCCL_DUMP_ON_TIMEOUT",
            value="1",
            why="the flight recorder is written when a collective times out",
        ),
        Variable(
            name="PYTORCH_CUDA_ALLOC_CONF",
            value="expandable_segments:True",
            why="freed blocks of odd sizes can be used again",
        ),
    )


def _connections(plan: Plan) -> tuple[Variable, ...]:
    """Megatron asserts both: one queue under TP or CP, more than one under FSDP."""
    name, layout = "CUDA_DEVICE_MAX_CONNECTIONS", plan.layout
    if plan.run.machine.accelerator.architecture not in BEFORE_BLACKWELL:
        return ()
    if layout.zero_stage > 1:
        why = "Megatron-FSDP refuses 1: its gathers need a queue of their own"
        return (Variable(name=name, value="32", why=why),)
    if layout.tp > 1 or layout.cp > 1:
        why = "Megatron asserts 1 with tp or cp: sends must reach the GPU before what hides them"
        return (Variable(name=name, value="1", why=why),)
    return ()


def _transformer_engine(plan: Plan) -> tuple[Variable, ...]:
    hidden = bool(plan.layout.overlap) and plan.run.machine.accelerator.architecture != "cpu"
    if not hidden:
        return ()
    why = "norms leave these multiprocessors to collectives that run beside them"
    margin = tuple(
        Variable(name=name, value="16", why=why)
        for name in ("NVTE_FWD_LAYERNORM_SM_MARGIN", "NVTE_BWD_LAYERNORM_SM_MARGIN")
    )
    if plan.precision is not Precision.FP8:
        return margin
    return (
        *margin,
        Variable(
            name="NVTE_FP8_BLOCK_SCALING_FP32_SCALES",
            value="1",
            why="FP32 scales of blocks on Hopper; other recipes do not read it",
        ),
    )
