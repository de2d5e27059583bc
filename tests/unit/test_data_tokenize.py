"""`llmorch data tokenize`: which documents a corpus gets, and what ends it early."""

import json
from pathlib import Path

import numpy as np
import pytest

from launch.workers.data import build_folder, chunks, encode
from launch.workers.data.check import Question, check
from launch.workers.data.corpus import Corpus, open_corpus

END = 256


@pytest.fixture
def tokenized(tmp_path, llmorch):
    """Return a function that tokenises files into a corpus, as bytes and in this process."""

    def run(*inputs, to="corpus", words=()):
        prefix = tmp_path / to
        words = ("--to", prefix, "--tokenizer", "bytes", "--processes", 1, "--json", *words)
        answer = llmorch("data", "tokenize", *inputs, *words)
        return answer, prefix

    return run


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 40)


def texts_of(prefix: Path) -> list[str]:
    """The documents of a corpus of bytes, each without its end."""
    corpus = open_corpus(str(prefix))
    assert isinstance(corpus, Corpus), corpus
    tokens = np.fromfile(corpus.tokens, corpus.dtype)
    found = []
    for first, last in zip(corpus.documents[:-1], corpus.documents[1:], strict=True):
        size = int(corpus.lengths[first:last].sum())
        at = int(corpus.pointers[first]) // 2 if size else 0
        document = tokens[at : at + size]
        assert not size or document[-1] == END
        found.append(document[:-1].astype(np.uint8).tobytes().decode())
    return found


def json_lines(path: Path, texts: list[object], key="text") -> Path:
    path.write_text("".join(json.dumps({key: text}) + "\n" for text in texts))
    return path


TEXTS = ["one", "zwölf", "", "a longer text of several words", "end\nof\nlines", "x" * 90]


def test_each_json_line_is_a_document(tmp_path, tokenized):
    answer, prefix = tokenized(json_lines(tmp_path / "a.jsonl", TEXTS))

    assert answer.code == 0, answer.err
    assert texts_of(prefix) == TEXTS
    assert json.loads(answer.out)["documents"] == len(TEXTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a.jsonl", "corpus.bin", "corpus.idx", "corpus.json")
    ]


@pytest.mark.parametrize("size", [1, 7, 40, 1 << 20])
def test_where_a_file_is_cut_changes_nothing(tmp_path, tokenized, monkeypatch, size):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", size)
    source = json_lines(tmp_path / "a.jsonl", TEXTS)
    source.write_text(source.read_text().rstrip("\n"))  # the last line may lack its end

    _, prefix = tokenized(source)

    assert texts_of(prefix) == TEXTS


def test_several_files_follow_each_other_and_a_text_file_is_one_document(tmp_path, tokenized):
    (tmp_path / "b.txt").write_text("first line\nsecond line\n")

    _, prefix = tokenized(json_lines(tmp_path / "a.jsonl", ["one"]), tmp_path / "b.txt")

    assert texts_of(prefix) == ["one", "first line\nsecond line\n"]


def test_lines_of_a_text_file_are_documents_when_asked(tmp_path, tokenized, small_chunks):
    (tmp_path / "b.txt").write_text("first line\n\nsecond line\n" + "z" * 50 + "\nlast")

    _, prefix = tokenized(tmp_path / "b.txt", words=("--text-unit", "line"))

    assert texts_of(prefix) == ["first line", "second line", "z" * 50, "last"]


def test_a_list_of_texts_is_a_document_of_several_sequences(tmp_path, tokenized):
    source = json_lines(tmp_path / "a.jsonl", [["one", "", "three"], [], "alone"], key="body")

    _, prefix = tokenized(source, words=("--key", "body"))

    corpus = open_corpus(str(prefix))
    assert corpus.lengths.tolist() == [3, 6, 6]
    assert corpus.documents.tolist() == [0, 2, 2, 3]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"text": "caf\xe9"}', "is not UTF-8 (byte 71 of the file)"),
        (b'{"text": "cut', "is not JSON"),
        (b'{"body": "x"}', "has no 'text'; it has body"),
        (b'{"text": 7}', "'text' is int, not a text"),
        (b'{"text": "\\ud800"}', "'text' has half of a surrogate pair"),
        (b'["text"]', "is not a JSON object"),
    ],
    ids=["utf-8", "json", "key", "type", "surrogate", "object"],
)
def test_a_broken_document_ends_it_with_its_line(tmp_path, tokenized, small_chunks, line, problem):
    source = json_lines(tmp_path / "a.jsonl", ["a" * 14, "b" * 18])
    with source.open("ab") as file:
        file.write(line + b'\n{"text": "after"}\n')

    answer, prefix = tokenized(source)

    assert answer.code == 3
    assert f"{source}: line 3: {problem}" in answer.err
    assert not Path(f"{prefix}.bin").exists()
    assert not Path(f"{prefix}.idx").exists()


def test_a_mended_file_goes_on_behind_what_was_done(tmp_path, tokenized, small_chunks):
    texts = ["a" * 30, "b" * 30, "c" * 30]
    source = json_lines(tmp_path / "a.jsonl", texts)
    whole = source.read_bytes()
    source.write_bytes(whole.replace(b"cccc", b"\xff\xff\xff\xff"))
    broken, _ = tokenized(source)
    source.write_bytes(whole)

    answer, prefix = tokenized(source)

    assert broken.code == 3
    assert texts_of(prefix) == texts
    assert json.loads(answer.out)["resumed_parts"] == 2


def test_what_was_done_is_done_again_where_its_input_has_changed(tmp_path, tokenized, small_chunks):
    texts = ["a" * 30, "b" * 30, "c" * 30]
    source = json_lines(tmp_path / "a.jsonl", texts)
    source.write_bytes(source.read_bytes().replace(b"cccc", b"\xff\xff\xff\xff"))
    tokenized(source)
    json_lines(source, ["A" * 30, *texts[1:]])

    answer, prefix = tokenized(source)

    assert texts_of(prefix) == ["A" * 30, *texts[1:]]
    assert json.loads(answer.out)["resumed_parts"] == 0


def test_broken_documents_are_left_out_and_counted_when_asked(tmp_path, tokenized, small_chunks):
    source = json_lines(tmp_path / "a.jsonl", ["one", 7, "three"])

    answer, prefix = tokenized(source, words=("--skip-broken",))

    assert texts_of(prefix) == ["one", "three"]
    assert json.loads(answer.out)["skipped_documents"] == 1


@pytest.mark.parametrize("damage", ["torn line", "short tokens", "changed tokens"])
def test_what_a_crash_left_behind_is_cut_off(tmp_path, tokenized, small_chunks, damage):
    texts = ["a" * 30, "b" * 30, "c" * 30]
    source = json_lines(tmp_path / "a.jsonl", texts)
    whole = source.read_bytes()
    source.write_bytes(whole.replace(b"cccc", b"\xff\xff\xff\xff"))
    _, prefix = tokenized(source)
    source.write_bytes(whole)
    folder = Path(f"{prefix}.building")
    if damage == "torn line":
        progress = folder / "progress.jsonl"
        progress.write_bytes(progress.read_bytes()[:-9])
    else:
        tokens = (folder / "tokens").read_bytes()
        end = b"" if damage == "short tokens" else b"\x00\x00"
        (folder / "tokens").write_bytes(tokens[:-2] + end)

    answer, _ = tokenized(source)

    assert texts_of(prefix) == texts
    assert json.loads(answer.out)["resumed_parts"] == 1


def test_names_given_half_are_taken_back(tmp_path, tokenized, monkeypatch):
    source = json_lines(tmp_path / "a.jsonl", TEXTS)
    rename = Path.rename

    def dies_at_the_index(path, target):
        if path.name == "index":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(build_folder.Path, "rename", dies_at_the_index)
    interrupted, prefix = tokenized(source)
    monkeypatch.undo()

    has_tokens_alone = Path(f"{prefix}.bin").exists() and not Path(f"{prefix}.idx").exists()
    answer, _ = tokenized(source)

    assert interrupted.code == 130
    assert has_tokens_alone
    assert (answer.code, texts_of(prefix)) == (0, TEXTS)


def test_a_finished_corpus_is_not_made_again(tmp_path, tokenized):
    source = json_lines(tmp_path / "a.jsonl", TEXTS)
    _, prefix = tokenized(source)
    before = Path(f"{prefix}.bin").stat().st_mtime_ns

    answer, _ = tokenized(source)

    assert json.loads(answer.out)["was_there"]
    assert Path(f"{prefix}.bin").stat().st_mtime_ns == before


def test_another_corpus_of_that_name_is_not_overwritten(tmp_path, tokenized):
    _, prefix = tokenized(json_lines(tmp_path / "a.jsonl", TEXTS))

    answer, _ = tokenized(json_lines(tmp_path / "b.jsonl", ["other"]))

    assert answer.code == 8
    assert "is there already" in answer.err
    assert texts_of(prefix) == TEXTS


def test_a_build_goes_on_with_the_settings_that_it_was_begun_with(
    tmp_path, tokenized, small_chunks
):
    source = json_lines(tmp_path / "a.jsonl", ["a" * 30, 7])
    tokenized(source)

    answer, _ = tokenized(source, words=("--key", "body"))

    assert answer.code == 2
    assert "key was text" in answer.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("missing.jsonl",), 8, "missing.jsonl: No such file"),
        (("a.csv",), 2, "'.csv' is no known kind of file"),
        (("a.txt", "--end-of-document", "<eos>"), 2, "no other token is possible"),
        (("a.txt", "--text-unit", "lines"), 2, "did you mean 'line'"),
    ],
    ids=["missing", "suffix", "end", "unit"],
)
def test_an_order_that_cannot_be_is_refused(tmp_path, llmorch, monkeypatch, words, code, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.csv").write_text("text")

    answer = llmorch("data", "tokenize", *words, "--to", "c", "--tokenizer", "bytes")

    assert answer.code == code
    assert says in answer.err


def test_a_document_longer_than_an_index_can_say_is_refused(tmp_path, tokenized, monkeypatch):
    monkeypatch.setattr(encode, "MAX_SEQUENCE_TOKENS", 50)
    source = json_lines(tmp_path / "a.jsonl", ["short", "", "y" * 50])

    answer, prefix = tokenized(source)

    assert answer.code == 3
    assert f"{source}: line 3: has 51 tokens, and an index holds at most 50" in answer.err
    assert not Path(f"{prefix}.idx").exists()


def test_lengths_up_to_31_bits_have_a_place_in_an_index():
    assert encode.too_long(np.array([2**31 - 1, 2**31, 2**32], np.int64)) == 1
    assert encode.too_long(np.array([2**31 - 1], np.int64)) is None


def test_empty_files_make_a_corpus_without_documents(tmp_path, tokenized):
    (tmp_path / "a.jsonl").write_text("\n\n")
    (tmp_path / "b.txt").write_text("")

    answer, prefix = tokenized(tmp_path / "a.jsonl", tmp_path / "b.txt")

    assert (answer.code, json.loads(answer.out)["documents"]) == (0, 0)
    assert "no sequences" in check(str(prefix), Question()).problem
