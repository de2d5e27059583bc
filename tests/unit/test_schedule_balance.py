"""The balancer on cases small enough to look through, and DeepSpeed's partition lists."""

import itertools
import random

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules import balance_search, partitions
from orchestrator.schedules.balance import Piece, Pieces, Pipeline, balanced
from orchestrator.schedules.memory import StageMemory, peak_bytes
from orchestrator.schedules.schedule import build
from orchestrator.schedules.simulate import simulate
from orchestrator.schedules.stages import parse, text_of, text_refusal
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind

LAYER = Piece(forward_ns=100, backward_ns=200, activation_bytes=10, state_bytes=100)
NOTHING = Piece()


def pipeline(kind: ScheduleKind = ScheduleKind.ONE_F_ONE_B, **said) -> Pipeline:
    words = {"pp": 4, "vpp": 1, "num_microbatches": 16, "microbatch_group_size": 4, **said}
    return Pipeline(kind=kind, **words)


def test_layers_without_ends_are_split_evenly():
    pieces = Pieces(embedding=NOTHING, layers=(LAYER,) * 8, loss=NOTHING)

    found = balanced(pieces, pipeline=pipeline())

    assert text_of(found.layout) == "Ett|tt|tt|ttL"
    assert found.is_proven


def test_a_heavy_vocabulary_takes_layers_from_the_last_stage():
    loss = Piece(forward_ns=210, backward_ns=420)
    pieces = Pieces(embedding=NOTHING, layers=(LAYER,) * 32, loss=loss)

    found = balanced(pieces, pipeline=pipeline(num_microbatches=64))

    assert [stage.decoder_layers for stage in found.layout.stages] == [9, 9, 9, 5]
    assert found.is_proven


def test_prediction_layers_stand_together_in_the_last_chunk():
    pieces = Pieces(embedding=NOTHING, layers=(LAYER,) * 6, loss=NOTHING, mtp=(LAYER,))

    found = balanced(pieces, pipeline=pipeline(ScheduleKind.INTERLEAVED, pp=2, vpp=2))

    refused = text_refusal(text_of(found.layout), pp=2, vpp=2, num_layers=6, mtp_num_layers=1)
    assert refused is None


def test_a_memory_cap_moves_layers_from_the_ranks_that_hold_most_microbatches():
    layer = Piece(forward_ns=100, backward_ns=200, activation_bytes=50, state_bytes=10)
    pieces = Pieces(embedding=NOTHING, layers=(layer,) * 8, loss=NOTHING)

    free = balanced(pieces, pipeline=pipeline())
    capped = balanced(pieces, pipeline=pipeline(memory_bytes=330))

    # Rank 0 holds four microbatches of two layers, and the states of both.
    assert free.peak_bytes == (4 * 100 + 20, 3 * 100 + 20, 2 * 100 + 20, 100 + 20)
    assert capped.layout.stages[0].decoder_layers == 1
    assert max(capped.peak_bytes) <= 330
    assert capped.is_proven


def test_what_fits_nowhere_is_refused_with_the_leanest_need():
    pieces = Pieces(embedding=NOTHING, layers=(LAYER,) * 8, loss=NOTHING)

    with pytest.raises(UsageError, match=r"the leanest needs 280 bytes.*there are 50"):
        balanced(pieces, pipeline=pipeline(memory_bytes=50))


def random_case(chance: random.Random) -> tuple[Pieces, Pipeline]:
    kind = chance.choice(
        [
            ScheduleKind.ONE_F_ONE_B,
            ScheduleKind.GPIPE,
            ScheduleKind.INTERLEAVED,
            ScheduleKind.ZERO_BUBBLE,
            ScheduleKind.ZB_V,
        ]
    )
    pp = chance.randint(2, 3)
    vpp = 1 if kind in {ScheduleKind.ONE_F_ONE_B, ScheduleKind.GPIPE} else 2

    def piece() -> Piece:
        return Piece(
            forward_ns=chance.randint(1, 20),
            backward_ns=chance.randint(1, 40),
            activation_bytes=chance.randint(1, 9),
            state_bytes=chance.randint(1, 9),
        )

    pieces = Pieces(
        embedding=piece(),
        layers=tuple(piece() for _ in range(chance.randint(2, 5))),
        loss=piece(),
        mtp=tuple(piece() for _ in range(chance.randint(0, 1))),
    )
    return pieces, Pipeline(
        kind=kind,
        pp=pp,
        vpp=vpp,
        num_microbatches=pp * chance.randint(1, 3),
        microbatch_group_size=pp,
        latency_ns=chance.randint(0, 5),
        memory_bytes=chance.choice([None, chance.randint(40, 200)]),
    )


def shortest(pieces: Pieces, asked: Pipeline) -> int | None:
    """Return the shortest makespan over all layouts, by trying every one."""
    schedule = build(
        asked.kind,
        pp=asked.pp,
        vpp=asked.vpp,
        num_microbatches=asked.num_microbatches,
        microbatch_group_size=asked.microbatch_group_size,
    )
    last, found = asked.num_stages - 1, []
    cuts = itertools.combinations_with_replacement(range(len(pieces.layers) + 1), last)
    for cut in cuts:
        ends = (0, *cut, len(pieces.layers))
        for mtp_stage in range(last, last - asked.pp, -1) if pieces.mtp else (last,):
            rows = [list(pieces.layers[a:b]) for a, b in itertools.pairwise(ends)]
            if pieces.mtp and any(rows[mtp_stage + 1 :]):
                continue
            rows[0].append(pieces.embedding)
            rows[mtp_stage] += pieces.mtp
            rows[last].append(pieces.loss)
            times = StageTimes(
                forward_ns=tuple(sum(one.forward_ns for one in row) for row in rows),
                backward_ns=tuple(sum(one.backward_ns for one in row) for row in rows),
                latency_ns=asked.latency_ns,
            )
            held = StageMemory(
                activation_bytes=tuple(sum(one.activation_bytes for one in row) for row in rows)
            )
            peaks = [
                peak + sum(one.state_bytes for s in schedule.stages_of(rank) for one in rows[s])
                for rank, peak in enumerate(peak_bytes(schedule, held))
            ]
            if asked.memory_bytes is None or max(peaks) <= asked.memory_bytes:
                found.append(simulate(schedule, times=times).makespan_ns)
    return min(found, default=None)


def test_the_balance_is_the_best_of_all_layouts():
    chance = random.Random(5)
    for _ in range(80):
        pieces, asked = random_case(chance)
        expected = shortest(pieces, asked)
        if expected is None:
            with pytest.raises(UsageError, match="no layout"):
                balanced(pieces, pipeline=asked)
            continue

        found = balanced(pieces, pipeline=asked)

        assert found.makespan_ns == expected, (pieces, asked)
        assert found.is_proven
        assert max(found.peak_bytes) <= (asked.memory_bytes or max(found.peak_bytes))


def test_looking_through_all_layouts_finds_the_best_without_a_good_one_to_begin_with(monkeypatch):
    monkeypatch.setattr(balance_search, "_seeds", lambda _: iter(()))
    chance = random.Random(6)
    for _ in range(60):
        pieces, asked = random_case(chance)
        expected = shortest(pieces, asked)
        if expected is not None:
            assert balanced(pieces, pipeline=asked).makespan_ns == expected, (pieces, asked)


def test_a_small_budget_gives_an_honest_bound():
    layers = tuple(
        Piece(forward_ns=100 + 7 * place, backward_ns=200 + 11 * place) for place in range(24)
    )
    pieces = Pieces(embedding=NOTHING, layers=layers, loss=LAYER)
    asked = pipeline(ScheduleKind.INTERLEAVED, vpp=4)

    found = balanced(pieces, pipeline=asked, budget=50)

    assert found.simulated <= 51
    assert not found.is_proven
    assert found.bound_ns <= balanced(pieces, pipeline=asked, budget=500).makespan_ns


def test_a_partition_list_says_where_stages_begin():
    layout = parse("Ett|ttt|tmL")

    parts = partitions.parts_of(layout)

    assert parts == (0, 3, 6, 9)
    assert partitions.layout_of(parts, letters="EttttttmL") == layout


@pytest.mark.parametrize("parts", [[], [0, 3], [1, 4], [0, 3, 2, 4]])
def test_lists_that_do_not_cut_the_layers_are_refused(parts):
    with pytest.raises(UsageError, match="does not cut 4 layers"):
        partitions.layout_of(parts, letters="EttL")
