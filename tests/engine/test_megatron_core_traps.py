"""What goes wrong silently, or forever, in megatron-core 0.16.1 and torchrun unless it is guarded.

Each test takes the guard away and shows that it is needed; the layouts of the parity tests show
that with it all is well. A guard that is no longer needed fails its test and can go.
"""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.engine.sameness import FIRST_STEP, HALF_WAY, Reference, config, off
from tests.engine.warm_ranks import WarmRun

INTERLEAVED = {"parallel": {"pp": 2, "vpp": 2}}

WITHOUT_OVERLAP = """
from launch.workers.megatron_core import model
layout = model._layout
model._layout = lambda *of: {**layout(*of), "overlap_p2p_comm": False, "batch_p2p_comm": True}
"""
DEALLOCATING = """
from launch.workers.megatron_core import model
layout = model._layout
model._layout = lambda *of: {**layout(*of), "deallocate_pipeline_outputs": True}
"""
SHARED_STEP = """
from launch.workers.megatron_core import patches
patches.keep_adam_steps_apart = lambda: None
"""
WITHOUT_PSUTIL = """
from megatron.core.dist_checkpointing.strategies import filesystem_async
filesystem_async.HAVE_PSUTIL = False
"""
MEGATRONS_OWN_SAVE = """
from launch.workers.megatron_core import checkpoint, session
checkpoint._InProcessSave = lambda: None
checkpoint.require_psutil = lambda: None
session.require_psutil = lambda: None
"""
SHIFTED = """
from launch.workers.megatron_core import patches
patches.save_state_where_it_is = lambda: None
"""
WITHOUT_GATHERING = """
from launch.workers.megatron_core.model import Model
Model.gather_weights = lambda self: None
"""
MIXED_PADDING = """
from launch.workers.megatron_core import checkpoint
checkpoint._require_same = lambda *of: None
"""


@pytest.fixture(scope="module")
def reference(warm, gpt) -> Reference:
    return Reference.of(warm, gpt)


def test_interleaving_over_two_ranks_needs_overlapped_messages(reference) -> None:
    run = reference.repeated(2, INTERLEAVED, before=WITHOUT_OVERLAP)

    assert len(off(run, reference.losses(), rel=0.01)) >= 20


def test_outputs_must_outlive_the_message_that_gloo_still_reads(reference) -> None:
    run = reference.repeated(2, INTERLEAVED, before=DEALLOCATING)

    assert off(run, reference.losses(), rel=1e-3)


def test_a_resume_must_not_leave_all_parameters_one_adam_step(reference) -> None:
    resume_from = reference.run.checkpoint(HALF_WAY)

    kept = reference.warm.run(config(reference.make, {}), resume_from=resume_from)
    shared = reference.warm.run(
        config(reference.make, {}), resume_from=resume_from, before=SHARED_STEP
    )

    losses = reference.losses(after=HALF_WAY)
    assert off(kept, losses, rel=0.0) == {}
    assert len(off(shared, losses, rel=1e-4)) >= 10


def test_without_psutil_saving_is_refused_because_megatrons_never_ends(warm, gpt) -> None:
    one_step = config(gpt, {"training": {"steps": 1}})

    refused = warm.attempt(one_step, staged=True, before=WITHOUT_PSUTIL)
    began_s = time.monotonic()
    as_it_is = warm.attempt(one_step, staged=True, before=MEGATRONS_OWN_SAVE)
    enough_s = 2 * (time.monotonic() - began_s)
    hung = warm.attempt(
        one_step, staged=True, before=WITHOUT_PSUTIL + MEGATRONS_OWN_SAVE, deadline_s=enough_s
    )

    assert refused.codes == [5]
    assert "psutil" in refused.refusal()
    assert as_it_is.codes == [0]
    assert hung.codes == [-9]
    assert hung.lines()[-1] == {"kind": "phase", "phase": "save"}
    assert warm.left_behind() == []


def test_moments_behind_a_padded_bucket_must_not_be_saved_shifted(reference) -> None:
    """A stage of one layer has an odd multiple of 64 weights, and tied embeddings behind them."""
    halves = {**INTERLEAVED, "checkpoint": {"interval_steps": HALF_WAY}}
    half = config(reference.make, {**halves, "training": {"steps": HALF_WAY}})

    def resumed(before: str) -> WarmRun:
        saved = reference.warm.run(
            half, ranks=2, resume_from=reference.start, staged=True, before=before
        )
        resume_from = saved.checkpoint(HALF_WAY)
        return reference.warm.run(config(reference.make, {}), resume_from=resume_from)

    kept, shifted = resumed(""), resumed(SHIFTED)

    losses = reference.losses(after=HALF_WAY)
    assert off(kept, losses) == {}
    assert len(off(shifted, losses, rel=1e-4)) >= 10


def test_a_checkpoint_holds_the_weights_that_are_still_to_be_gathered(warm, gpt) -> None:
    overlapped = {"parallel": {"overlap": ["dp"]}}
    whole = warm.run(config(gpt, {**overlapped, "training": {"steps": 4}}), ranks=2)

    def losses_after_a_save(before: str) -> dict[int, float]:
        first = config(gpt, {**overlapped, "training": {"steps": 2}})
        half = warm.run(first, ranks=2, staged=True, before=before)
        second = config(gpt, {"training": {"steps": 4}})
        return warm.run(second, resume_from=half.checkpoint(2)).losses()

    gathered, mixed = losses_after_a_save(""), losses_after_a_save(WITHOUT_GATHERING)

    expected = {step: loss for step, loss in whole.losses().items() if step > 2}
    assert gathered == pytest.approx(expected, rel=1e-6)
    assert mixed != pytest.approx(expected, rel=1e-4)


def test_padding_that_follows_tp_makes_another_model(reference) -> None:
    """Megatron pads to a multiple of tp: a softmax over more rows has another loss."""
    wider = {"parallel": {"tp": 2}, "model": {"padded_vocab_size": 528}}
    made = config(reference.make, {**wider, "training": {"steps": FIRST_STEP + 1}})

    refused = reference.warm.attempt(made, ranks=2, resume_from=reference.start)
    mixed = reference.warm.attempt(made, ranks=2, resume_from=reference.start, before=MIXED_PADDING)

    assert refused.codes == [5, 5]
    assert "padded_vocab_size is 264 there and 528 here" in refused.refusal()
    assert "vocab_padding_multiple" in refused.log()
    first = FIRST_STEP + 1
    assert not mixed.losses() or off(mixed, {first: reference.losses()[first]}, rel=1e-3)


RESTARTED = """
import os, pathlib, sys, threading
from launch.workers.megatron_core import main
first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
arrived = pathlib.Path(sys.argv[2])
ports = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
train = main._train
def watched(*of):
    from launch.workers.megatron_core import session
    join = session.distributed.join
    def joined(*of):
        if not first:
            arrived.touch()
        # Of two ranks the one with the greater address dials: the new rank 0 is to be it.
        ports.write_text("20480 20511" if first else "20704 20735")
        join(*of)
        if first:
            os._exit(9)
        ports.write_text("32768 60999")
    session.distributed.join = joined
    train(*of)
main._train = watched
if not first and os.environ["RANK"] == "1":
    while {is_away}:
        threading.Event().wait(0.05)
{guard}
sys.exit(main.run(["--config", sys.argv[1]], os.environ))
"""
UNTIL_MISSED = "not arrived.exists()"  # rank 0 looks for its peers before this one is there
ONE_GENERATION = "os.environ['LLMORCH_GENERATION'] = 'always-the-same'"


@pytest.mark.parametrize(
    ("guard", "is_away", "recovers"),
    [
        pytest.param("", UNTIL_MISSED, True, id="guarded"),
        # Whoever dials the dead does so without waiting for rank 1, so rank 1 need not come.
        pytest.param(ONE_GENERATION, "True", False, id="unguarded"),
    ],
)
def test_a_restarted_rank_must_not_dial_its_dead_predecessors(
    tmp_path, gpt, worker_environment, guard, is_away, recovers
) -> None:
    """torchrun keeps its store over restarts, and in it the addresses of the last attempt.

    Gloo leaves it to the addresses who dials; the ports of a network of its own settle that.
    """
    (tmp_path / "config.json").write_text(json.dumps(gpt(training={"steps": 2})))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    torchrun += ["--max-restarts=1", "--monitor-interval=0.2", "--no-python"]
    rank: list[Any] = [sys.executable, "-c", RESTARTED.format(guard=guard, is_away=is_away)]

    own_network = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]

    done = subprocess.run(
        [
            *(*own_network, sys.executable, *torchrun, *rank),
            *(tmp_path / "config.json", tmp_path / "arrived"),
        ],
        env=worker_environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert (done.returncode == 0) == recovers, done.stdout + done.stderr
    assert ("step 2/2" in done.stdout) == recovers
    assert ("connectFullMesh failed" in done.stderr) != recovers
