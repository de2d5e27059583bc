"""What `pretrain_gpt.py` is told of checkpoints, logs, evaluation and leaving."""

from orchestrator.engines.megatron_lm.row import Job, Row, Section, Value

TIMEOUT_MINUTES = 60
"""Of a collective: ten minutes, the default, are too short for index building and cold loads."""

COLLECTION_STEPS = 100
"""Steps between Python garbage collections, at the same step on all ranks."""


def checkpoint_folder(job: Job) -> str | None:
    """Return where checkpoints go, None where the run file has no checkpoint section."""
    checkpoint = job.plan.run.spec.checkpoint
    if checkpoint is None:
        return None
    return f"checkpoints/{job.plan.run.name}"


def _interval(job: Job) -> Value:
    checkpoint = job.plan.run.spec.checkpoint
    return None if checkpoint is None else checkpoint.interval_steps


def _keeps(job: Job) -> bool:
    return job.plan.run.spec.checkpoint is not None


CHECKPOINT = Section(
    title="Checkpoints",
    applies=_keeps,
    rows=(
        Row(flag="--save", value=checkpoint_folder, why="a file system that all hosts share"),
        Row(
            flag="--load",
            value=checkpoint_folder,
            why="goes on from the newest one; starts anew where there is none",
        ),
        Row(flag="--save-interval", value=_interval, why="steps between checkpoints"),
        Row(
            flag="--ckpt-format",
            value=lambda j: "fsdp_dtensor" if j.fsdp else "torch_dist",
            why="sharded, loads into another layout; FSDP has its own format",
        ),
        Row(
            flag="--async-save",
            value=lambda j: not j.fsdp,
            why="training goes on while the checkpoint is written",
        ),
        Row(
            flag="--use-persistent-ckpt-worker",
            value=lambda j: not j.fsdp,
            why="without it --async-save is switched off with a warning",
        ),
        Row(
            flag="--dist-ckpt-optim-fully-reshardable",
            value=lambda j: j.layout.zero_stage == 1,
            why="the only form of optimizer states that another dp can load",
        ),
    ),
)

LEAVING = Section(
    title="Leaving and coming back",
    yields=True,
    rows=(
        Row(
            flag="--exit-signal-handler",
            value=lambda _: True,
            why="SIGTERM: save, then leave; what a scheduler sends before its limit",
        ),
        Row(
            flag="--distributed-timeout-minutes",
            value=lambda _: TIMEOUT_MINUTES,
            why="the default, 10, ends runs that build an index or load from cold storage",
        ),
        Row(
            flag="--rerun-mode",
            value=lambda _: "validate_results",
            why="a NaN is computed again: exit 16 means try other hardware, 17 a bad host",
        ),
        Row(
            flag="--manual-gc",
            value=lambda _: True,
            why="ranks collect garbage at the same step instead of in turn",
        ),
        Row(
            flag="--manual-gc-interval",
            value=lambda _: COLLECTION_STEPS,
            why="steps between collections",
        ),
    ),
)
