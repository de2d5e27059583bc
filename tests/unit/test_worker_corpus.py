"""What becomes a document of the corpus, before Megatron writes it."""

import json
import platform

import pytest

from launch.workers.data.main import run
from launch.workers.data.prepare import read_documents, standard_library_files


def files(folder, **texts):
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return [folder / name for name in texts]


def test_whole_files_are_documents_until_the_limit_cuts_the_last(tmp_path) -> None:
    paths = files(tmp_path, a=b"abc", b=b"defg", c=b"hij")

    assert list(read_documents(paths, limit_bytes=5)) == [b"abc", b"de"]


def test_an_empty_file_is_no_document(tmp_path) -> None:
    paths = files(tmp_path, a=b"", b=b"defg")

    assert list(read_documents(paths, limit_bytes=100)) == [b"defg"]


def test_a_limit_at_the_end_of_a_file_adds_no_empty_document(tmp_path) -> None:
    paths = files(tmp_path, a=b"abc", b=b"defg")

    assert list(read_documents(paths, limit_bytes=3)) == [b"abc"]


def test_the_standard_library_comes_sorted_and_without_installed_packages() -> None:
    paths = list(standard_library_files())

    assert paths == sorted(paths)
    assert any(path.name == "argparse.py" for path in paths)
    assert not any("site-packages" in path.parts for path in paths)


def test_a_finished_corpus_with_the_same_recipe_is_used_again(tmp_path, capsys) -> None:
    prefix = tmp_path / "corpus"
    recipe = {
        "source": "stdlib",
        "limit_bytes": 10,
        "python": platform.python_version(),
        "schema": 1,
    }
    counts = {"num_documents": 1, "num_tokens": 11}
    note = {"recipe": recipe, "counts": counts, "size_bytes": 22}
    (tmp_path / "corpus.json").write_text(json.dumps(note))
    (tmp_path / "corpus.bin").write_bytes(bytes(22))
    (tmp_path / "corpus.idx").write_bytes(b"kept")

    code = run(["--prefix", str(prefix), "--limit-bytes", "10"])

    assert (code, capsys.readouterr().out) == (0, f"{prefix}: 1 documents, 11 tokens\n")
    assert (tmp_path / "corpus.idx").read_bytes() == b"kept"


def test_a_limit_below_one_byte_is_refused(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["--prefix", str(tmp_path / "corpus"), "--limit-bytes", "0"])

    assert ended.value.code == 2
    assert "0 is below 1" in capsys.readouterr().err
