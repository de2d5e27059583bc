"""Laws of hostfiles: lists expand and compress, tables read back, nothing else is ever raised."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from launch.host_table import table_of
from launch.hostfile import parse_hosts
from orchestrator.errors import InvalidFile
from orchestrator.topology.hosts import Host
from orchestrator.topology.nodelist import NodelistError, compressed, expanded

word = st.sampled_from(["a", "b", "ab", "a-b"])
number = st.tuples(st.integers(0, 1200), st.integers(1, 4)).map(
    lambda pair: f"{pair[0]:0{pair[1]}d}"
)
name = st.one_of(
    st.tuples(word, number).map("".join),
    st.tuples(word, number, word, number).map("".join),
    st.tuples(word, number, word).map("".join),
    word,
)
label = st.sampled_from(["r1", "r2", "row 1, cell 2", "it's", 'a"b', "/x/y.z"])


@settings(deadline=None)
@given(st.lists(name, min_size=1, max_size=15))
def test_a_compressed_list_expands_to_the_same_names_in_the_same_order(names):
    assert list(expanded(compressed(names))) == names


@settings(deadline=None)
@given(start=st.integers(0, 999), count=st.integers(1, 300), width=st.integers(1, 5))
def test_consecutive_hosts_compress_to_one_bracket(start, count, width):
    names = [f"h{n:0{width}d}" for n in range(start, start + count)]

    text = compressed(names)

    assert text.count("[") == (count > 1)
    assert "," not in text


@settings(deadline=None)
@given(
    low=st.integers(0, 50),
    count=st.integers(1, 20),
    width=st.integers(1, 4),
    racks=st.integers(1, 5),
)
def test_brackets_multiply_with_the_last_one_turning_fastest(low, count, width, racks):
    high = f"{low + count - 1:0{width}d}"
    text = f"r[1-{racks}]n[{low:0{width}d}-{high}]"

    assert expanded(text) == tuple(
        f"r{rack}n{n:0{width}d}" for rack in range(1, racks + 1) for n in range(low, low + count)
    )


@st.composite
def rosters(draw: st.DrawFn) -> tuple[Host, ...]:
    names = draw(st.lists(name, min_size=1, max_size=6, unique_by=str.lower))
    gpus = draw(st.none() | st.integers(1, 16))
    levels = draw(st.sets(st.sampled_from(["rack", "rail", "block"])))
    users = st.sampled_from([None, "me"])
    return tuple(
        Host(name=one, gpus=gpus, user=draw(users), **{level: draw(label) for level in levels})
        for one in names
    )


@settings(deadline=None)
@given(rosters())
def test_a_table_reads_back_as_the_same_hosts(hosts):
    again = parse_hosts(table_of(hosts), source="f")

    assert [(h.name, h.gpus, h.user, h.path) for h in again] == [
        (h.name, h.gpus, h.user, h.path) for h in hosts
    ]


fragment = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["h1", "h[1-3]", " slots=8", "slots=", ":8", "[", "]", ",", "#", "host,gpus", "s0.s1.h1"],
    ),
    st.sampled_from(["SLURM_TOPOLOGY_ADDR=", '"', "@", "-", "\n", "\r\n", "\ufeff", "\x00"]),
)


@settings(deadline=None)
@given(st.lists(fragment, max_size=12).map("".join))
def test_any_text_gives_hosts_or_problems_and_no_host_is_a_word_of_a_shell(text):
    try:
        hosts, said = parse_hosts(text, source="f"), ""
    except InvalidFile as error:
        said, hosts = str(error), ()

    assert hosts or said.startswith("f: ")
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", host.name) for host in hosts)
    assert len({host.name.lower() for host in hosts}) == len(hosts)


@settings(deadline=None)
@given(st.text("h[]-,019", max_size=14))
def test_any_list_expands_or_says_the_column(text):
    try:
        names, column = expanded(text), 0
    except NodelistError as error:
        names, column = (), error.column

    assert 0 <= column <= len(text)
    assert not any(set("[],") & set(one) for one in names)
