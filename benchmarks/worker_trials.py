"""One of the two processes of worker_overhead.py: `worker_trials.py ours|bare CONFIG`.

It builds everything once, runs a trial for each line of its input, and answers with CPU-seconds:
all of them, and those outside the engine. Both loops' own code is timed in the same way.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from worker_shares import ENGINE, OWN, Shares, share_collectives, share_engine, share_marks

STEPS_OF_A_TRIAL = 2


def serve(name: str, config: Path) -> None:
    """Build everything once, then run a trial for each line of input."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # both on one core: the same caches
    shares = Shares()
    trial = {"ours": our_trial, "bare": bare_trial}[name](config, shares)
    for _ in sys.stdin:
        shares.begin()
        began_s = time.process_time()
        trial()
        whole_s = time.process_time() - began_s
        print(
            f"cpu_s {whole_s / STEPS_OF_A_TRIAL} {shares.seconds[OWN] / STEPS_OF_A_TRIAL}",
            flush=True,
        )


def our_trial(config: Path, shares: Shares) -> Callable[[], None]:
    """Steps through the worker's loop, with an agent's pipe and mark file."""
    reading, writing = os.pipe()
    mark_file = config.with_name("ours.mark")
    os.environ.update(LLMORCH_RANK_FD=str(writing), LLMORCH_MARK_FILE=str(mark_file))
    from launch.workers.leave import LeaveRequest
    from launch.workers.megatron_core.main import prepare_torch
    from launch.workers.megatron_core.tensorboard import Curves
    from launch.workers.report import Reporter

    reporter = Reporter.from_environment(os.environ)
    share_collectives(shares)
    prepare_torch(reporter)  # before anything of Megatron's is imported
    share_marks(shares)
    from launch.workers.megatron_core import session as building
    from launch.workers.megatron_core import step as stepping
    from launch.workers.megatron_core.checkpoint import Position

    def engine_of(*of: Any) -> Any:  # noqa: ANN401
        engine = build(*of)
        share_engine(shares, engine)
        return engine

    build, building.build_engine = building.build_engine, engine_of
    find = stepping.get_forward_backward_func
    stepping.get_forward_backward_func = lambda: shares.of(ENGINE, find())
    shares.wrap(OWN, stepping, "_forward", "_mean_loss")
    session = session_of(config, reporter, LeaveRequest())
    loop = session._build(joined(session))  # noqa: SLF001 - the whole, without its run
    silent = Curves(writer=None, world_size=1)
    position = [Position(step=0, consumed_samples=0)]

    def trial() -> None:
        for _ in range(STEPS_OF_A_TRIAL):
            _, position[0] = loop._advance(position[0], silent)  # noqa: SLF001 - one step
        os.read(reading, 1 << 16)  # as the agent, which is another process, would

    return shares.of(OWN, trial)


def bare_trial(config: Path, shares: Shares) -> Callable[[], None]:
    """Steps through as little as trains: Megatron's schedule, optimizer and scheduler."""
    from launch.workers.leave import LeaveRequest
    from launch.workers.megatron_core.main import prepare_torch
    from launch.workers.report import Reporter

    reporter = Reporter(pipe=None, marks=None)
    share_collectives(shares)
    prepare_torch(reporter)
    session = session_of(config, reporter, LeaveRequest())
    device = joined(session)
    from launch.workers.megatron_core.dataset import build_datasets
    from launch.workers.megatron_core.engine import build_engine

    engine = build_engine(session.arguments, device)
    share_engine(shares, engine)
    datasets = build_datasets(session.arguments, session.index)
    step = bare_step(session.arguments, engine, datasets, shares)

    def trial() -> None:
        for _ in range(STEPS_OF_A_TRIAL):
            step()

    return shares.of(OWN, trial)


def bare_step(
    arguments: Any,  # noqa: ANN401 - untyped engine
    engine: Any,  # noqa: ANN401
    datasets: Any,  # noqa: ANN401
    shares: Shares,
) -> Callable[[], None]:
    """One step as Megatron's `train_step` does it."""
    import torch
    from megatron.core.distributed import finalize_model_grads
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from torch.utils.data import DataLoader

    training, size = arguments.training, arguments.training.micro_batch_size

    def order() -> Iterator[list[int]]:
        first = 0
        while True:
            yield list(range(first, first + size))
            first += size

    batches = iter(DataLoader(datasets.training, batch_sampler=order()))
    (chunk,) = engine.model.chunks
    engine.model.config.finalize_model_grads_func = finalize_model_grads
    engine.model.config.grad_scale_func = engine.optimizer.scale_loss

    def forward(batches: Any, model: Any) -> Any:  # noqa: ANN401
        batch = next(batches)
        losses = model(batch["tokens"], batch["position_ids"], None, labels=batch["labels"])
        mask = batch["loss_mask"]

        def mean(losses: Any) -> Any:  # noqa: ANN401
            loss = (losses.float() * mask).sum() / mask.sum()
            return loss, {"loss": loss.detach().clone()}

        return losses, shares.of(OWN, mean)

    forward_backward = shares.of(ENGINE, get_forward_backward_func())
    own_forward = shares.of(OWN, forward)

    def step() -> None:
        chunk.zero_grad_buffer()
        engine.optimizer.zero_grad()
        outcomes = forward_backward(
            forward_step_func=own_forward,
            data_iterator=batches,
            model=chunk,
            num_microbatches=training.global_batch_size // size,
            seq_length=training.sequence_length,
            micro_batch_size=size,
            forward_only=False,
        )
        engine.optimizer.step()
        engine.schedule.step(1)
        torch.stack([outcome["loss"] for outcome in outcomes]).mean().item()

    return step


def session_of(config: Path, reporter: Any, leave: Any) -> Any:  # noqa: ANN401
    """The worker's session on one rank, nothing begun."""
    from launch.workers.megatron_core.arguments import read_arguments
    from launch.workers.megatron_core.main import _index_of
    from launch.workers.megatron_core.session import Session
    from launch.workers.world import World

    arguments = read_arguments(config)
    return Session(
        arguments=arguments,
        index=_index_of(arguments),
        world=World.from_environment({}),
        reporter=reporter,
        leave=leave,
        staging=None,
        resume_from=None,
    )


def joined(session: Any) -> Any:  # noqa: ANN401
    """Meet nobody, as the only rank; returns the device."""
    from launch.workers.megatron_core import distributed
    from launch.workers.megatron_core.dataset import build_datasets
    from launch.workers.megatron_core.device import Device
    from launch.workers.sample_index import ensure_index

    ensure_index(session.index, partial(build_datasets, session.arguments))
    device = Device.here()
    distributed.join(session.world, device)
    return device


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
