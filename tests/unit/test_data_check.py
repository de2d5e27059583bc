"""`llmorch data check`: whole corpora pass, and of broken ones the first document is named."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

HEADER = struct.Struct("<9sQBQQ")
DOCUMENTS = [[5, 6, 7, 0], [8, 0], [], [9, 9, 9, 0]]


def write(
    prefix: Path, *, lengths=None, pointers=None, documents=None, tokens=None, magic=b"MMIDIDX\0\0"
) -> Path:
    """Write a corpus of DOCUMENTS as uint16, with parts of its index as given instead."""
    counts = [len(document) for document in DOCUMENTS if document]
    lengths = counts if lengths is None else lengths
    pointers = [0, 8, 12] if pointers is None else pointers
    documents = [0, 1, 2, 2, 3] if documents is None else documents
    head = HEADER.pack(magic, 1, 8, len(lengths), len(documents))
    parts = [np.array(lengths, "<i4"), np.array(pointers, "<i8"), np.array(documents, "<i8")]
    Path(f"{prefix}.idx").write_bytes(head + b"".join(part.tobytes() for part in parts))
    whole = [token for document in DOCUMENTS for token in document]
    flat = whole if tokens is None else tokens
    Path(f"{prefix}.bin").write_bytes(np.array(flat, "<u2").tobytes())
    return prefix


def test_a_whole_corpus_passes(tmp_path, llmorch):
    prefix = write(tmp_path / "c")

    answer = llmorch("data", "check", prefix, "--vocab-size", 10, "--end-of-document", 0, "--json")

    assert answer.code == 0
    assert json.loads(answer.out)["corpora"] == [
        {
            "prefix": str(prefix),
            "whole": True,
            "documents": 4,
            "sequences": 3,
            "tokens": 10,
            "dtype": "uint16",
        }
    ]


@pytest.mark.parametrize(
    ("parts", "words", "file", "document", "says"),
    [
        ({"tokens": [5, 6, 7, 0, 8]}, (), "c.bin", 2, "10 bytes: sequence 2 ends at byte 12"),
        ({"tokens": [0] * 11}, (), "c.bin", None, "22 bytes, and its index tells of 20"),
        ({"pointers": [0, 8, 14]}, (), "c.idx", 4, "begins at byte 14, and those before it end"),
        ({"lengths": [4, -2, 4]}, (), "c.idx", 2, "sequence 2 has -2 tokens"),
        ({"documents": [0, 1, 3, 2, 3]}, (), "c.idx", 3, "begins at 3"),
        ({"documents": [0, 1, 2, 2, 9]}, (), "c.idx", 4, "ends at sequence 9 of 3"),
        ({"documents": [1, 1, 2, 2, 3]}, (), "c.idx", 1, "begins at sequence 1, not at 0"),
        ({"documents": [0, 1, 2]}, (), "c.idx", 2, "its last document ends at sequence 2 of 3"),
        ({"lengths": [], "pointers": [], "documents": [0]}, (), "c.idx", None, "no sequences"),
        ({"magic": b"MMIDXIDX\0"}, (), "c.idx", None, "is not an index of Megatron's format"),
        ({}, ("--vocab-size", 9), "c.bin", 4, "token 9 at byte 12, and the vocabulary is 9"),
        ({"tokens": [5, 6, 7, 0, 8, 1, 9, 9, 9, 0]}, ("--end-of-document", 0), "c.bin", 2, "in 0"),
    ],
    ids=[
        *("short tokens", "long tokens", "pointer", "length", "order", "past the end", "first"),
        *("last", "no sequences", "magic", "vocabulary", "end of document"),
    ],
)
def test_the_first_broken_document_is_named(tmp_path, llmorch, parts, words, file, document, says):
    prefix = write(tmp_path / "c", **parts)

    answer = llmorch("data", "check", prefix, "--json", *words)

    place = f"{tmp_path / file}: " + ("" if document is None else f"document {document}: ")
    assert answer.code == 3
    assert place in answer.err
    assert says in answer.err
    assert json.loads(answer.out)["corpora"][0]["first_broken_document"] == document


@pytest.mark.parametrize(
    ("size", "document", "says"),
    [
        (0, None, "is empty"),
        (20, None, "20 bytes: ends in its header"),
        (34 + 3 * 12 - 1, 1, "3 sequences in 4 documents take 110"),
        (110 - 8, 4, "102 bytes"),
        (110 - 9, 3, "101 bytes"),
    ],
    ids=["empty", "header", "pointers", "last document", "and a byte"],
)
def test_an_index_that_was_cut_says_from_which_document_on(tmp_path, llmorch, size, document, says):
    prefix = write(tmp_path / "c")
    index = tmp_path / "c.idx"
    index.write_bytes(index.read_bytes()[:size])

    answer = llmorch("data", "check", prefix, "--json")

    assert answer.code == 3
    assert says in answer.err
    assert json.loads(answer.out)["corpora"][0]["first_broken_document"] == document


def test_an_index_of_the_other_byte_order_is_called_that(tmp_path, llmorch):
    prefix = write(tmp_path / "c")
    index = tmp_path / "c.idx"
    swapped = struct.pack(">9sQBQQ", b"MMIDIDX\0\0", 1, 8, 3, 5)
    index.write_bytes(swapped + index.read_bytes()[HEADER.size :])

    answer = llmorch("data", "check", prefix)

    assert answer.code == 3
    assert "is big-endian" in answer.err


def test_every_broken_corpus_is_named(tmp_path, llmorch):
    broken = [write(tmp_path / name, tokens=[5]) for name in ("a", "b")]

    answer = llmorch("data", "check", *broken, write(tmp_path / "c"))

    assert answer.code == 3
    assert f"2 corpora: {tmp_path / 'a.bin'}: document 1" in answer.err
    assert f"2 corpora: {tmp_path / 'b.bin'}: document 1" in answer.err
    assert "whole" in answer.out


def test_a_corpus_that_is_not_there_is_no_corpus(tmp_path, llmorch):
    answer = llmorch("data", "check", tmp_path / "nowhere")

    assert answer.code == 3
    assert "nowhere.idx: there is no such file" in answer.err
