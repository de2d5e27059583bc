"""Who is blamed for a hang, from where each rank stands."""

import pytest

from launch.supervisor.guilt import Blame, Stand, blame, group_key, members


def stand(rank: int, label: str | None, counts: dict[str, int] | None = None, **more) -> Stand:
    keyed = {group_key(group): count for group, count in (counts or {}).items()}
    return Stand(rank=rank, seq=1, step=7, label=label, counts=keyed, **more)


WORLD = "world 0-3"


def test_the_rank_that_others_wait_for_in_a_collective_is_guilty() -> None:
    stands = [stand(r, f"all_reduce {WORLD} #{4 if r == 2 else 5}") for r in range(4)]

    found = blame(stands)

    assert found.rank == 2
    assert found.why == f"it stopped after 'all_reduce {WORLD} #4', and the others wait for it"


def test_a_rank_is_told_from_its_victims_across_groups() -> None:
    """tp 2 x pp 2: rank 1 stopped in its forward pass; 0 waits in tp, 2 and 3 for activations."""
    stands = [
        stand(0, "all_reduce tp 0,1 #9", {"pp 0>2": 3, "tp 0,1": 9}),
        stand(1, "all_reduce tp 0,1 #8", {"pp 1>3": 3, "tp 0,1": 8}),
        stand(2, "irecv pp 0>2 #4", {"pp 0>2": 4, "tp 2,3": 20}),
        stand(3, "irecv pp 1>3 #4", {"pp 1>3": 4, "tp 2,3": 20}),
    ]

    assert blame(stands).rank == 1


def test_a_rank_whose_last_mark_is_in_another_group_is_known_by_its_counts() -> None:
    """Rank 1 took its activations and stopped before the tp collective that rank 0 is in."""
    stands = [
        stand(0, "all_reduce tp 0,1 #9", {"tp 0,1": 9, "pp 2>0": 4}),
        stand(1, "irecv pp 3>1 #4", {"tp 0,1": 8, "pp 3>1": 4}),
        stand(2, "irecv pp 0>2 #5", {"pp 2>0": 4, "pp 0>2": 5}),
        stand(3, "irecv pp 1>3 #5", {"pp 3>1": 4, "pp 1>3": 5}),
    ]

    assert blame(stands).rank == 1


def test_nobody_is_named_when_all_wait_in_the_same_collective() -> None:
    found = blame(stand(r, f"all_reduce {WORLD} #5") for r in range(4))

    assert found == Blame(rank=None, why="the guilty rank is unknown")


def test_nobody_is_named_when_two_stopped() -> None:
    stands = [stand(r, f"all_reduce {WORLD} #{4 if r < 2 else 5}") for r in range(4)]

    assert blame(stands).rank is None


def test_a_stopped_process_is_guilty_wherever_it_stands() -> None:
    stands = [
        stand(r, f"all_reduce {WORLD} #5", process_state="T" if r == 3 else "S") for r in range(4)
    ]

    assert blame(stands) == Blame(rank=3, why="its process is stopped")


def test_two_stopped_processes_are_two_suspects() -> None:
    stands = [stand(r, f"all_reduce {WORLD} #5", process_state="T") for r in range(2)]

    assert blame(stands).rank is None


@pytest.mark.parametrize(
    ("seqs", "guilty"), [([5, 4, 5], 1), ([5, 5, 5], None), ([5, None, 5], 1), ([4, 4, 5], None)]
)
def test_marks_without_groups_are_compared_by_their_number(seqs, guilty) -> None:
    stands = [
        Stand(rank=r, seq=seq, step=None if seq is None else 7, label=seq and "go on")
        for r, seq in enumerate(seqs)
    ]

    assert blame(stands).rank == guilty


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-3", {0, 1, 2, 3}),
        ("0-6:2", {0, 2, 4, 6}),
        ("1,4", {1, 4}),
        ("0>2", {0, 2}),
        ("7", {7}),
        ("any>2", None),
        ("1,2,", None),
        ("0-99999999999", None),
    ],
)
def test_the_members_of_a_group_are_read_from_its_label(text: str, expected) -> None:
    assert members(text) == expected
