"""`llmorch models`, `clusters` and `show`: tables, search, JSON, import."""

import json
import re

import pytest
import yaml

from orchestrator.catalog.cards import cluster_names, environment_names, model_card, model_names

CONFIG = {
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 4,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 32000,
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "my-llama"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["models", "qwen3"], "models-qwen3.txt"),
        (["clusters", "aws"], "clusters-aws.txt"),
        (["show", "llama-3.1-8b"], "show-llama-3.1-8b.txt"),
        (["show", "deepseek-v3"], "show-deepseek-v3.txt"),
        (["show", "p5.48xlarge"], "show-p5.48xlarge.txt"),
        (["show", "b300-288gb-sxm"], "show-b300-288gb-sxm.txt"),
        (["show", "gcp-tcpxo"], "show-gcp-tcpxo.txt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_page_reads_as_it_did(llmorch, golden, words, text):
    answer = llmorch(*words)

    assert answer.code == 0, answer.err
    assert max(len(line) for line in answer.out.splitlines()) <= 100
    golden(f"cards/{text}", answer.out)


def test_models_lists_all_of_them_with_their_counts(llmorch):
    document = json.loads(llmorch("models", "--json").out)

    assert document["schema"] == 1
    assert [row["name"] for row in document["models"]] == list(model_names())
    rows = {row["name"]: row for row in document["models"]}
    assert rows["llama-3.1-405b"]["parameters"] == 405_853_388_800
    assert rows["mixtral-8x7b"]["active_parameters"] == 12_879_925_248
    assert "published" in rows["gpt3-175b"]["unverified"]


def test_words_narrow_the_models_down(llmorch):
    document = json.loads(llmorch("models", "LLAMA", "405b", "--json").out)

    assert [row["name"] for row in document["models"]] == ["llama-3.1-405b"]


def test_clusters_are_found_by_provider_and_accelerator(llmorch):
    document = json.loads(llmorch("clusters", "azure", "h100", "--json").out)

    assert [row["name"] for row in document["clusters"]] == ["nd96isr_h100_v5"]
    assert [row["name"] for row in document["accelerators"]] == ["h100-80gb-sxm"]


def test_clusters_without_words_lists_every_accelerator_too(llmorch):
    document = json.loads(llmorch("clusters", "--json").out)

    assert [row["name"] for row in document["clusters"]] == list(cluster_names())
    assert len(document["accelerators"]) == 16


@pytest.mark.parametrize("command", ["models", "clusters"])
def test_a_search_that_finds_nothing_says_so(llmorch, command):
    answer = llmorch(command, "nothing-like-it")

    assert answer.code == 3
    assert "'nothing-like-it'" in answer.err
    assert answer.out == ""


def test_show_computes_flops_and_parts_for_scripts(llmorch):
    document = json.loads(llmorch("show", "mixtral-8x7b", "--json").out)

    computed = document["computed"]
    assert sum(computed["parameter_parts"].values()) == computed["parameters"]
    forward = computed["forward_flop_per_token"]
    assert sum(computed["forward_flop_parts"].values()) == pytest.approx(forward)
    assert computed["training_flop_per_token"] == 3 * forward


def test_show_puts_a_host_types_variables_into_its_environment(llmorch):
    document = json.loads(llmorch("show", "bm.gpu.h100.8", "--json").out)

    assert document["computed"]["environment"]["env"]["NCCL_CUMEM_ENABLE"] == "0"
    assert document["computed"]["accelerator"]["name"] == "h100-80gb-sxm"


def test_show_without_a_name_lists_every_shelf(llmorch):
    document = json.loads(llmorch("show", "--json").out)

    assert set(document) == {"schema", "models", "clusters", "accelerators", "environments"}
    assert document["environments"] == list(environment_names())


def test_a_config_becomes_a_card_that_reads_back(llmorch, folder):
    answer = llmorch("models", "import", folder)

    assert answer.code == 0, answer.err
    card = yaml.safe_load(answer.out)
    assert (card["name"], card["num_layers"], card["num_query_groups"]) == ("my-llama", 4, 16)
    assert "not mapped: rope_interleaved: true" in answer.err
    assert "torch_dtype" not in answer.err


def test_an_imported_card_can_be_planned_once_it_has_a_training(llmorch, folder, monkeypatch):
    monkeypatch.chdir(folder)
    llmorch("models", "import", ".", "--name", "mine", "--out", "mine.yaml")
    training = {"sequence_length": 4096, "global_batch_size": 256, "tokens": 10**9, "source": "us"}
    with (folder / "mine.yaml").open("a") as file:
        file.write(yaml.safe_dump({"reference_training": training}))

    answer = llmorch("plan", "--gpus", 8, "--model", "mine.yaml", "--json")

    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["plans"]


def test_an_import_for_scripts_names_what_was_not_mapped(llmorch, folder):
    document = json.loads(llmorch("models", "import", folder, "--json").out)

    assert document["unmapped"] == {"rope_interleaved": True}
    assert document["card"]["hidden_size"] == 2048
    assert document["computed"]["parameters"] > 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (None, "config.json: there is no such file"),
        ("{", "config.json: not JSON"),
        ('{"model_type": "mamba"}', "model_type: 'mamba' is not known here"),
    ],
    ids=["absent", "half", "unknown"],
)
def test_a_folder_that_cannot_be_imported_is_refused(llmorch, folder, change, text):
    path = folder / "config.json"
    path.unlink() if change is None else path.write_text(change)

    answer = llmorch("models", "import", folder)

    assert answer.code == 3
    assert text in answer.err
    assert answer.out == ""


def test_an_accelerator_without_a_cluster_is_found(llmorch):
    document = json.loads(llmorch("clusters", "mi300x", "--json").out)

    assert document["clusters"] == []
    assert [card["name"] for card in document["accelerators"]] == ["mi300x-192gb"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_hidden_layers": 99_999_999}, "num_layers: 99999999: input should be less than"),
        ({"hidden_size": 10**24}, "hidden_size"),
        ({"num_attention_heads": 31, "head_dim": None}, "does not divide the hidden size"),
        ({"num_attention_heads": 0, "head_dim": None}, "does not divide the hidden size"),
        ({"rope_scaling": {"rope_type": "weird", "factor": 2.0}}, "'weird' is not known here"),
        ({"model_type": ["llama"]}, "model_type: is required and absent"),
    ],
    ids=["deep", "wide", "uneven-heads", "no-heads", "rope", "type"],
)
def test_a_value_that_cannot_be_is_refused_at_once(llmorch, folder, change, text):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    answer = llmorch("models", "import", folder)

    assert answer.code == 3, answer.err
    assert text in answer.err
    assert "Traceback" not in answer.err


def test_nesting_without_end_is_refused(llmorch, folder):
    (folder / "config.json").write_text("[" * 200_000)

    answer = llmorch("models", "import", folder)

    assert answer.code == 3
    assert "not JSON" in answer.err


def test_an_imported_card_says_when_it_was_read(llmorch, folder):
    answer = llmorch("models", "import", folder)

    assert re.search(r"retrieved: '?20\d\d-\d\d-\d\d", answer.out)


def test_every_figure_of_the_tables_that_nobody_read_is_marked(llmorch):
    lines = {line.split()[0]: line for line in llmorch("clusters").out.splitlines() if line.strip()}

    assert "1.5-6.9 (2026)?" in lines["h100-80gb-sxm"]
    assert "2250?" in lines["b300-288gb-sxm"]
    assert "400?" in lines["dgx-h100"]
    assert "400?" not in lines["nd96isr_h100_v5"]
    assert model_card("gpt3-13b").is_unverified("num_layers")
    assert "40?" in llmorch("models", "gpt3-13b").out
