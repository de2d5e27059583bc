"""`llmorch data tokenize` and Megatron's own builder make the same bytes of the same documents.

What `tools/preprocess_data.py` does to a JSON line is short: each text under the key is tokenised
without special tokens, empty ones are dropped, an end of document joins the last, and
`IndexedDatasetBuilder.add_document` writes them, in the type that `DType.optimal_dtype` chooses.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder
from pyarrow import parquet
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from launch.workers.data import chunks

END = "<|endoftext|>"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def documents() -> list[str | list[str]]:
    """The project's own texts, and what is easily forgotten."""
    texts = [path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))]
    odd = ["", " ", "\n\n", "zwölf Boxkämpfer 🥊 \u2028 \x00", f"a {END} in a text"]
    return [*texts, *odd, ["two", "", "sentences"], [], ["", ""]]


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory, documents) -> Path:
    """A byte-level BPE whose post-processor would add a token, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=[END, "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for text in documents if isinstance(text, str)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    tokenizer.enable_truncation(100)  # what must not cut a corpus
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def preprocessed(prefix: Path, lines: Path, encode, *, end: int | None, num_ids: int) -> Path:
    """Write a corpus as `tools/preprocess_data.py` does."""
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=DType.optimal_dtype(num_ids))
    for line in lines.read_text().splitlines():
        value = json.loads(line)["text"]
        ids, lengths = [], []
        for text in value if isinstance(value, list) else [value]:
            if found := encode(text):
                ids.extend(found)
                lengths.append(len(found))
        if ids and end is not None:
            ids.append(end)
            lengths[-1] += 1
        builder.add_document(ids, lengths)
    builder.finalize(f"{prefix}.idx")
    return prefix


def assert_same(ours: Path, theirs: Path) -> None:
    for suffix in (".bin", ".idx"):
        assert Path(f"{ours}{suffix}").read_bytes() == Path(f"{theirs}{suffix}").read_bytes(), (
            suffix
        )


@pytest.fixture
def lines(tmp_path, documents) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return path


@pytest.fixture
def tokenize(tmp_path, llmorch):
    def run(source, *words):
        prefix = tmp_path / f"ours-{source.name}"
        answer = llmorch("data", "tokenize", source, "--to", prefix, *words)
        assert answer.code == 0, answer.err
        return prefix

    return run


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("end", [END, "none"])
def test_a_tokenizer_file_gives_the_bytes_of_preprocess_data(
    tmp_path, lines, tokenizer_file, tokenize, monkeypatch, end, processes
):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100_000)
    monkeypatch.setattr("launch.workers.data.tokenize.CHUNK_BYTES", 100_000)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    end_id = None if end == "none" else tokenizer.token_to_id(end)
    theirs = preprocessed(
        tmp_path / "theirs",
        lines,
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        end=end_id,
        num_ids=tokenizer.get_vocab_size(),
    )

    words = ("--tokenizer", tokenizer_file.parent, "--end-of-document", end)
    ours = tokenize(lines, *words, "--processes", processes)

    assert_same(ours, theirs)


def test_bytes_give_the_bytes_of_preprocess_data(tmp_path, lines, tokenize):
    theirs = preprocessed(
        tmp_path / "theirs", lines, lambda text: list(text.encode()), end=256, num_ids=257
    )

    assert_same(tokenize(lines, "--tokenizer", "bytes"), theirs)


def test_parquet_gives_the_bytes_of_json_lines(tmp_path, lines, documents, tokenize):
    texts = [text for text in documents if isinstance(text, str)]
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    table = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": texts, "n": range(len(texts))}), table, row_group_size=3)

    assert_same(*(tokenize(source, "--tokenizer", "bytes") for source in (table, lines)))


def test_a_vocabulary_past_16_bits_is_stored_in_32(tmp_path, lines, tokenize):
    vocabulary = {f"w{number}": number for number in range(65_500)}
    tokenizer = Tokenizer(models.WordLevel({**vocabulary, "two": 65_500}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))

    ours = tokenize(lines, "--tokenizer", path, "--end-of-document", "w9")

    corpus = IndexedDataset(str(ours))
    assert corpus[0].dtype == np.int32
    assert [65_500, 0, 9] in [
        corpus[i].tolist() for i in range(len(corpus))
    ] or 65_500 in np.fromfile(f"{ours}.bin", np.int32)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (pa.table({"text": ["one", None]}), "row 2 of row group 1: 'text' is NoneType"),
        (pa.table({"body": ["one"]}), "has no column 'text'; it has body"),
    ],
    ids=["null", "column"],
)
def test_a_broken_row_is_named(tmp_path, llmorch, rows, says):
    parquet.write_table(rows, tmp_path / "a.parquet")

    answer = llmorch(
        *(
            "data",
            "tokenize",
            tmp_path / "a.parquet",
            "--to",
            tmp_path / "c",
            "--tokenizer",
            "bytes",
        )
    )

    assert answer.code == 3
    assert says in answer.err


def test_a_parquet_file_that_was_cut_is_called_that(tmp_path, llmorch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(20))

    answer = llmorch(
        *(
            "data",
            "tokenize",
            tmp_path / "a.parquet",
            "--to",
            tmp_path / "c",
            "--tokenizer",
            "bytes",
        )
    )

    assert answer.code == 3
    assert "not a whole Parquet file" in answer.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 2, "special tokens here: <|endoftext|> <bos>"),
        (("--end-of-document", "<|endoftxt|>"), 2, "did you mean '<|endoftext|>'"),
    ],
    ids=["not said", "misspelt"],
)
def test_the_end_of_a_document_has_to_be_said(
    tmp_path, lines, tokenizer_file, llmorch, words, code, says
):
    order = ("data", "tokenize", lines, "--to", tmp_path / "c", "--tokenizer", tokenizer_file)

    answer = llmorch(*order, *words)

    assert answer.code == code
    assert says in answer.err
