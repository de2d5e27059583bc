"""What `pretrain_gpt.py` is told of its own watchers: stragglers, and nvidia-resiliency-ext."""

from orchestrator.engines.megatron_lm.row import Job, Row, Section

STRAGGLERS_SHOWN = 4
"""Ranks named at each end of a line; Megatron's default is one."""

STRAGGLER_PORT = 65535
"""Where rank 0 listens to be told on or off; Megatron's default, written so that it is known."""

STRAGGLERS = Section(
    title="Stragglers",
    applies=lambda j: j.plan.run.spec.engine.hooks.stragglers,
    rows=(
        Row(
            flag="--log-straggler",
            value=lambda _: True,
            why="each line of log names the ranks with the lowest and highest throughput",
        ),
        Row(
            flag="--straggler-minmax-count",
            value=lambda _: STRAGGLERS_SHOWN,
            why="how many of them",
        ),
        Row(
            flag="--straggler-ctrlr-port",
            value=lambda _: STRAGGLER_PORT,
            why="rank 0 listens there to be switched off and on: close it to strangers",
        ),
    ),
)

FAULT_TOLERANCE = Section(
    title="Fault tolerance",
    applies=lambda j: j.plan.run.spec.engine.hooks.fault_tolerance,
    rows=(
        Row(
            flag="--enable-ft-package",
            value=lambda _: True,
            why="ranks report sections to nvidia-resiliency-ext, which must be installed",
        ),
        Row(
            flag="--calc-ft-timeouts",
            value=lambda _: True,
            why="limits follow the times that were seen; kept beside the checkpoints",
        ),
    ),
)


def ft_launcher(job: Job) -> tuple[str, ...]:
    """Return the first words of a host's starter with nvidia-resiliency-ext 0.5 and later.

    Up to 0.4.1 the options were called `--ft-param-rank_section_timeouts`, as Megatron's own
    examples still write them; Megatron 0.17 to 0.19 pin 0.6.0.
    """
    hang = job.plan.run.spec.supervise.hang
    phase, step = f"{hang.phase_s:g}", f"{hang.ceiling_s:g}"
    return (
        "ft_launcher",
        f"--ft-rank-section-timeouts=setup:{phase},step:{step},checkpointing:{phase}",
        f"--ft-rank-out-of-section-timeout={phase}",
    )
