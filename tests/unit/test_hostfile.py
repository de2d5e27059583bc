"""Hostfiles: every dialect reads, and everything wrong is named with its line, all at once."""

import re

import pytest

from launch.host_table import table_of
from launch.hostfile import parse_hosts, read_hosts
from orchestrator.errors import ExitCode, InvalidFile


def names(text):
    return [host.name for host in parse_hosts(text, source="hosts")]


def problems(text):
    with pytest.raises(InvalidFile) as caught:
        parse_hosts(text, source="hosts")
    assert caught.value.exit_code is ExitCode.INVALID_FILE
    return str(caught.value).splitlines()


EXAMPLES = {
    "names.txt": [("gpu-a1", None), ("gpu-a2", None), ("gpu-a3", None), ("10.20.0.4", None)],
    "deepspeed.txt": [(f"worker-{n}", 8) for n in (1, 2, 3, 4)],
    "mpi.txt": [("node01", 8), ("node02", 8)],
    "mpich.txt": [("node01", 8), ("node02", 8)],
    "slurm-nodelist.txt": [
        *((name, None) for name in ("h001", "h002", "h003", "h130")),
        *((f"rack{r}n0{n}", None) for r in (1, 2) for n in (1, 2, 3, 4)),
    ],
    "slurm-topology.txt": [("h1", None), ("h3", None), ("h2", None), ("h4", None)],
    "racks.csv": [(f"h{n:03d}", 8) for n in (*range(1, 12), 14, 12, 13)],
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_of_each_dialect_reads(root, example):
    hosts = read_hosts(root / "hostfiles" / example)

    assert [(host.name, host.gpus) for host in hosts] == EXAMPLES[example]


def test_every_example_is_tested_and_in_the_readme(root):
    files = {path.name for path in (root / "hostfiles").iterdir()} - {"README.md"}
    listed = set(re.findall(r"\]\(([\w.-]+)\)", (root / "hostfiles" / "README.md").read_text()))

    assert files == set(EXAMPLES)
    assert listed == files


def test_a_table_says_what_lies_above_a_host(root):
    host = read_hosts(root / "hostfiles" / "racks.csv")[4]

    assert (host.name, host.path, host.line) == ("h005", ("su1", "leafs-a", "r02"), 3)
    assert host.levels == ("block", "rail", "rack")


def test_slurms_addresses_say_what_lies_above_a_host(root):
    host = read_hosts(root / "hostfiles" / "slurm-topology.txt")[1]

    assert (host.name, host.path, host.line) == ("h3", ("spine", "leaf2"), 4)


def test_a_name_with_dots_is_told_from_switches_by_the_pattern():
    text = (
        "SLURM_TOPOLOGY_ADDR=s0.s1.h1.example.org\nSLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node\n"
    )

    assert [(h.name, h.switches) for h in parse_hosts(text, source="f")] == [
        ("h1.example.org", ("s0", "s1"))
    ]


@pytest.mark.parametrize(
    "text",
    [
        "h1\nh2\n",
        "h1\nh2",
        "\ufeffh1\nh2\n",
        "h1\r\nh2\r\n",
        "h1\rh2\r",
        "\n\n# hosts\n  h1   \n\n\th2 # the second\n",
        "h[1-2]",
        "h1,h2",
        "host\nh1\nh2\n",
    ],
    ids=[
        "plain",
        "no-newline",
        "bom",
        "crlf",
        "cr",
        "blanks-and-comments",
        "range",
        "list",
        "header",
    ],
)
def test_what_surrounds_the_hosts_is_no_matter(text):
    assert names(text) == ["h1", "h2"]


def test_lines_are_counted_through_blanks_and_comments():
    assert [host.line for host in parse_hosts("# one\n\nh1\n\nh2", source="f")] == [3, 5]


def test_a_user_and_an_address_are_kept():
    table = parse_hosts("host,address,user\nh1,10.0.0.1,me\n", source="f")[0]

    assert parse_hosts("me@h1 slots=8", source="f")[0].user == "me"
    assert (table.address, table.user) == ("10.0.0.1", "me")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g[8-11]", "g8 g9 g10 g11"),
        ("g[08-10,099-101,7]", "g08 g09 g10 g099 g100 g101 g7"),
        ("r[1-2]n[09-10],login1", "r1n09 r1n10 r2n09 r2n10 login1"),
        ("b[049-051,110,066]", "b049 b050 b051 b110 b066"),
    ],
)
def test_a_node_list_is_read_as_slurm_reads_it(text, expected):
    """What `scontrol show hostnames` of Slurm 22.05 prints."""
    assert names(text) == expected.split()


WRONG = {
    "empty": ("", ["hosts: no host is in it"]),
    "comments-alone": ("# none\n \n", ["hosts: no host is in it"]),
    "header-alone": ("host,gpus\n", ["hosts: no host is under the header"]),
    "twice": ("h1\nh2\nh1\n", ["hosts: line 3: 'h1' is named on line 1 already"]),
    "twice-by-case": ("Node1\nnode1\n", ["hosts: line 2: 'node1' is named on line 1 already"]),
    "twice-by-user": ("a@h1\nb@h1\n", ["hosts: line 2: 'h1' is named on line 1 already"]),
    "twice-in-a-list": ("h[1-3],h2", ["hosts: line 1: 'h2' is named on this line already"]),
    "other-slots": (
        "h1 slots=8\nh1 slots=4\n",
        ["hosts: line 2: 'h1' is named on line 1 already, there with slots=8, here with slots=4"],
    ),
    "one-address": (
        "host,address\na,10.0.0.1\nb,10.0.0.1\n",
        ["hosts: line 3: 'b' has the address of 'a' on line 2"],
    ),
    "some-slots": (
        "h1 slots=8\nh2\nh3\n",
        ["hosts: line 2: 'h2' has no slots, and 'h1' on line 1 has; so have 1 more hosts none"],
    ),
    "some-racks": (
        "host,rack\nh1,r1\nh2,\n",
        ["hosts: line 3: 'h2' has no rack, and 'h1' on line 2 has"],
    ),
    "no-slots": ("h1 slots=0", ["hosts: line 1: slots=0 is not from 1 to 1,000,000"]),
    "word-slots": ("h1 slots=all", ["hosts: line 1: slots=all is no whole number"]),
    "arabic-slots": (
        "h1 slots=\u0668",
        ["hosts: line 1: slots=\u0668 is no whole number"],
    ),
    "long-slots": ("h1 slots=" + "9" * 5000, ["no whole number"]),
    "spaced-slots": ("h1 slots = 8", ["hosts: line 1: 'slots' after the host is not of the form"]),
    "bare-slots": ("h1 8", ["hosts: line 1: '8' after the host is not of the form slots=8"]),
    "slots-typo": ("h1 slot=8", ["hosts: line 1: unknown word 'slot='", "did you mean 'slots'?"]),
    "slots-twice": ("h1 slots=8 slots=4", ["hosts: line 1: slots is given twice on this line"]),
    "slots-in-both": ("h1:8 slots=8", ["hosts: line 1: 'h1:8' gives the slots twice"]),
    "above-max": ("h1 slots=8 max_slots=4", ["hosts: line 1: slots=8 is more than max_slots=4"]),
    "open-bracket": ("h2\nh[1-4", ["hosts: line 2, column 2: '[' is not closed"]),
    "indented-bracket": ("   h1]", ["hosts: line 1, column 6: ']' closes no '['"]),
    "nested": ("h[1-[2-3]]", ["hosts: line 1, column 5: brackets do not nest"]),
    "no-range": ("h[]", ["hosts: line 1, column 3: '[]' is no number and no range"]),
    "letters": ("h[a-b]", ["hosts: line 1, column 3: '[a-b]' is no number and no range"]),
    "downwards": ("h[9-1]", ["hosts: line 1, column 3: '[9-1]' runs downwards", "[1-9]"]),
    "unlike-padding": ("h[01-5]", ["hosts: line 1, column 3: the ends of '[01-5]' are padded"]),
    "gigantic": ("h[1-99999999]", ["stands for 99,999,999 hosts, more than 100,000"]),
    "gigantic-product": ("h[1-9999][1-9999]", ["stands for 99,980,001 hosts, more than 100,000"]),
    "endless-number": ("h[" + "9" * 5000 + "]", ["has more than 15 digits"]),
    "empty-entry": ("h1,,h2", ["hosts: line 1, column 4: nothing stands between two commas"]),
    "option": ("-oProxyCommand=x", ["hosts: line 1: '-oProxyCommand=x' is no host name"]),
    "option-user": ("-l@h1", ["hosts: line 1: '-l' is no user's name"]),
    "option-address": ("host,address\nh1,-x\n", ["hosts: line 2: '-x' is no host name"]),
    "shell": ("h1;reboot", ["hosts: line 1: 'h1;reboot' is no host name"]),
    "control": ("h\x001", ["hosts: line 1: 'h?1' is no host name"]),
    "ipv6": ("fe80::1 slots=8", ["hosts: line 1: 'fe80::1' looks like an IPv6 address"]),
    "no-ipv4": ("10.0.0.300", ["hosts: line 1: '10.0.0.300' is neither a host name nor"]),
    "number": ("8", ["hosts: line 1: '8' is neither a host name nor an IPv4 address"]),
    "column-typo": ("hots,gpus\nh1,8", ["hosts: line 1: unknown column 'hots'", "'host'"]),
    "column-twice": ("host,gpus,gpus\nh1,8,8", ["hosts: line 1: the column gpus is written twice"]),
    "columns-alike": ("host,gpus,slots\nh1,8,8", ["hosts: line 1: the columns gpus and slots"]),
    "no-host-column": ("gpus,rack\n8,r1", ["hosts: line 1: there is no column host"]),
    "semicolons": ("host;gpus\nh1;8", ["hosts: line 1: the columns are separated by ';'"]),
    "cells": ("host,gpus\nh1,8,r1", ["hosts: line 2: 3 cells under 2 columns (host,gpus)"]),
    "quote": ('host,gpus\n"h1,8', ["hosts: line 2: no row of a table"]),
    "nameless": ("host,gpus\n,8", ["hosts: line 2: the host has no name"]),
    "rack-control": ("host,rack\nh1,r\x071", [r"hosts: line 2: 'r\x071' is no name of a rack"]),
    "wrong-topology": ("host,topology\nh1,s0.s1.h2", ["'s0.s1.h2' does not end with .h1"]),
    "shared-topology": ("host,topology\nh[1-2],s0.h1", ["2 hosts cannot share one address"]),
    "foreign-line": ("SLURM_TOPOLOGY_ADDR=s0.h1\nh2", ["hosts: line 2: 'h2' among lines of"]),
    "no-node": ("SLURM_TOPOLOGY_ADDR=s0.", ["hosts: line 1: 's0.' names no host"]),
    "unlike-pattern": (
        "SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node\nSLURM_TOPOLOGY_ADDR=s0.h1",
        ["hosts: line 2: 's0.h1' has not the 3 parts of 'switch.switch.node'"],
    ),
    "uneven-depth": (
        "SLURM_TOPOLOGY_ADDR=s0.s1.h1\nSLURM_TOPOLOGY_ADDR=s0.h2",
        ["hosts: line 2: 'h2' is 1 switches deep, 'h1' on line 1 is 2"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_line(case):
    text, expected = WRONG[case]

    said = "\n".join(problems(text))

    assert all(part in said for part in expected), said
    assert max(map(len, said.splitlines())) <= 120


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_lines():
    said = problems("h1 slots=8\nh[2- slots=8\nh1 slots=4\nh4\n-x slots=8\n")

    lines = [line.split(":")[1].strip() for line in said if line.startswith("hosts")]
    assert lines == ["line 2, column 2", "line 3", "line 4", "line 5"]


def test_a_file_of_another_kind_is_not_recited_line_by_line():
    said = problems("import os, sys\n" * 5000)

    assert said[-1] == "hosts: 4,950 more problems like these"
    assert len(said) <= 101


def test_a_missing_hostfile_is_an_error_and_never_this_machine_alone(tmp_path):
    with pytest.raises(InvalidFile, match="hostfile not found"):
        read_hosts(tmp_path / "hosts")


def test_a_folder_and_a_binary_are_refused_in_words(tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"h1\xff\xfe\n")

    with pytest.raises(InvalidFile, match=r"not UTF-8 text \(byte 2\)"):
        read_hosts(binary)
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_hosts(tmp_path)


def test_hosts_written_as_a_table_read_back(root):
    for example in EXAMPLES:
        hosts = read_hosts(root / "hostfiles" / example)

        again = parse_hosts(table_of(hosts), source="f")

        assert [(h.name, h.gpus, h.path, h.user) for h in again] == [
            (h.name, h.gpus, h.path, h.user) for h in hosts
        ]
