"""Which processors ranks get, on hosts whose `/sys` a test has written."""

from pathlib import Path

import pytest

from launch.agent.binding import (
    BindingError,
    Machine,
    processors,
    read_machine,
    spoken_cpus,
    visible_gpus,
)
from launch.wire import Binding
from orchestrator.specs import choices


@pytest.fixture
def host(tmp_path) -> Path:
    """Two NUMA nodes of two cores with two threads each, and four GPUs: two a node."""
    write(tmp_path / "sys/devices/system/node/node0/cpulist", "0-1,4-5\n")
    write(tmp_path / "sys/devices/system/node/node1/cpulist", "2-3,6-7\n")
    for cpu in range(8):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        write(topology / "thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    for node, address in ((1, "C3"), (0, "07"), (0, "0A"), (1, "C7")):
        gpu = f"0000:{address}:00.0"
        (tmp_path / "proc/driver/nvidia/gpus" / gpu).mkdir(parents=True)
        write(tmp_path / "sys/bus/pci/devices" / gpu.lower() / "numa_node", f"{node}\n")
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def machine(host: Path, allowed=range(8)) -> Machine:
    return read_machine(host, allowed=allowed)


def spoken(shares) -> list[str | None]:
    return [None if share is None else spoken_cpus(share) for share in shares]


def test_auto_puts_a_rank_beside_its_gpu(host) -> None:
    shares = processors(machine(host), Binding.AUTO, local_world_size=4)

    assert spoken(shares) == ["0-1,4-5", "0-1,4-5", "2-3,6-7", "2-3,6-7"]


def test_auto_leaves_a_host_without_gpus_alone(host) -> None:
    for gpu in (host / "proc/driver/nvidia/gpus").iterdir():
        gpu.rmdir()

    assert processors(machine(host), Binding.AUTO, local_world_size=3) == (None,) * 3


def test_auto_leaves_a_host_of_one_node_alone(host) -> None:
    shares = processors(machine(host, allowed=[2, 3, 6, 7]), Binding.AUTO, local_world_size=4)

    assert shares == (None,) * 4


def test_a_gpu_whose_node_the_host_does_not_tell_is_not_bound_by_auto(host) -> None:
    write(host / "sys/bus/pci/devices/0000:07:00.0/numa_node", "-1\n")

    shares = processors(machine(host), Binding.AUTO, local_world_size=2)

    assert spoken(shares) == [None, "0-1,4-5"]


def test_numa_spreads_ranks_evenly_where_there_is_no_gpu_for_each(host) -> None:
    shares = processors(machine(host), Binding.NUMA, local_world_size=6)

    assert spoken(shares) == ["0-1,4-5"] * 3 + ["2-3,6-7"] * 3


def test_cores_are_whole_and_nobody_elses(host) -> None:
    shares = processors(machine(host), Binding.CORES, local_world_size=4)

    assert spoken(shares) == ["0,4", "1,5", "2,6", "3,7"]


def test_cores_that_do_not_suffice_are_refused_with_both_numbers(host) -> None:
    with pytest.raises(BindingError) as refused:
        processors(machine(host, allowed=[0, 4, 2, 3]), Binding.CORES, local_world_size=4)

    assert refused.value.reason == (
        "launch.binding cores: 2 ranks on 1 cores (processors 0,4); a rank needs one of its own"
    )


def test_processors_we_may_not_use_are_not_given_away(host) -> None:
    shares = processors(machine(host, allowed=[1, 5, 6]), Binding.NUMA, local_world_size=2)

    assert spoken(shares) == ["1,5", "1,5"]


def test_none_leaves_all_to_all(host) -> None:
    assert processors(machine(host), Binding.NONE, local_world_size=2) == (None, None)


def test_a_kernel_that_tells_nothing_is_one_node_of_single_cores(tmp_path) -> None:
    found = read_machine(tmp_path, allowed=[0, 3])

    assert spoken(found.nodes) == ["0,3"]
    assert spoken(found.cores) == ["0", "3"]
    assert found.gpu_nodes == ()


def test_this_host_can_be_read() -> None:
    found = read_machine()

    assert frozenset().union(*found.nodes) >= frozenset().union(*found.cores) != frozenset()


def test_ranks_see_as_many_gpus_as_there_are_of_them(host) -> None:
    assert visible_gpus(machine(host), count=2, given=None) == "0,1"
    assert visible_gpus(machine(host), count=8, given=None) == "0,1,2,3"


def test_gpus_that_a_batch_system_gave_are_kept(host) -> None:
    assert visible_gpus(machine(host), count=2, given="GPU-5e,GPU-6f") == "GPU-5e,GPU-6f"


def test_a_host_without_gpus_shows_none(tmp_path) -> None:
    assert visible_gpus(read_machine(tmp_path, allowed=[0]), count=2, given=None) is None


def test_run_files_and_agents_know_the_same_words() -> None:
    assert list(choices.Binding) == list(Binding)
