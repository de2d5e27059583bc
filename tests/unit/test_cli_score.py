"""`llmorch score` and `llmorch calibrate` from a user's seat."""

import csv
import json

import pytest

COLUMNS = ["id", "gpu", "gpus", "model", "seq_len", "global_batch", "micro_batch", "tp", "pp",
           "vpp", "cp", "framework", "recompute", "precision", "measured_step_time_s",
           "split_group"]  # fmt: skip


def _file(path, *, factor=1.0, rows=6):
    """Write runs of two models whose steps take `factor` of what was published of the like."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for index in range(rows):
            gpus = 64 * 2 ** (index // 2)
            if index % 2:
                row = ["llama3-70b", 8192, gpus * 2, 1, 4, 4, 5, 2, "NeMo 24.12", "none", "bf16"]
                seconds, group = 14.8 * factor, "b"
            else:
                row = ["llama3-8b", 8192, gpus * 16, 1, 1, 1, 1, 2, "NeMo 24.12", "none", "bf16"]
                seconds, group = 13.1 * factor, "a"
            writer.writerow([f"r{index}", "H100-SXM-80GB", gpus, *row, f"{seconds:.3f}", group])
    return path


def test_score_prints_errors_by_class_and_group(llmorch, tmp_path):
    shown = llmorch("score", _file(tmp_path / "runs.csv")).out

    assert "6 rows: 6 with a step time scored, 0 not predicted" in shown
    assert "dense H100" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_score_writes_the_columns_that_are_promised(llmorch, tmp_path):
    out = tmp_path / "predictions.csv"

    llmorch("score", _file(tmp_path / "runs.csv"), "--out", out)

    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    promised = ["id", "predicted_step_time_s", "predicted_tokens_per_s_per_gpu",
                "predicted_peak_mem_gib", "assumed", "skipped_reason"]  # fmt: skip
    assert list(rows[0])[:6] == promised
    for row in rows:
        step, rate = float(row[promised[1]]), float(row[promised[2]])
        assert rate > 0
        assert float(row["low_s"]) < step < float(row["high_s"])
        assert row["rates"] == "fitted"
        assert row["assumed"]


def test_score_says_why_a_row_is_not_predicted_and_predicts_the_others(llmorch, tmp_path):
    path = _file(tmp_path / "runs.csv")
    path.write_text(path.read_text() + "odd,TPU,8,llama3-8b,8192,8,1,1,1,1,1,,none,bf16,1,c\n")

    document = json.loads(llmorch("score", path, "--json").out)

    assert document["schema"] == 1
    assert document["rows"][-1]["skipped_reason"].startswith("gpu 'TPU' is not one of")
    assert document["rows"][-1]["predicted_step_time_s"] is None
    assert document["classes"]["dense H100"]["rows"] == 6


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no rows below a header line"),
        ("id,gpu\nx,H100\n", "gpus: is a column that every row needs"),
    ],
)
def test_score_refuses_a_file_without_what_every_row_needs(llmorch, tmp_path, text, complaint):
    path = tmp_path / "runs.csv"
    path.write_text(text)

    ended = llmorch("score", path)

    assert ended.code == 3
    assert complaint in ended.err


def test_calibrate_learns_that_a_cluster_is_slower(llmorch, tmp_path):
    slow, mine = _file(tmp_path / "slow.csv", factor=1.3), tmp_path / "mine.yaml"
    before = json.loads(llmorch("score", slow, "--json").out)["classes"]["dense H100"]

    shown = llmorch("calibrate", slow, "-o", mine).out

    after = json.loads(llmorch("score", slow, "--calibration", mine, "--json").out)
    assert before["bias"] < -15
    assert abs(after["classes"]["dense H100"]["bias"]) < 4
    assert after["calibration"]["name"] == "my-cluster"
    assert "numbers fitted on 6 rows in 2 groups" in " ".join(shown.split())


def test_calibrate_refuses_rows_without_a_time(llmorch, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("id,gpu,gpus,model,seq_len,global_batch\nx,H100,8,llama3-8b,8192,8\n")

    ended = llmorch("calibrate", path, "-o", tmp_path / "mine.yaml")

    assert ended.code == 3
    assert "no row has a step time" in ended.err
    assert not (tmp_path / "mine.yaml").exists()


def test_score_refuses_a_calibration_that_is_none(llmorch, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\nfigures: 3\n")

    ended = llmorch("score", _file(tmp_path / "runs.csv"), "--calibration", wrong)

    assert ended.code == 3
    assert "figures" in ended.err
