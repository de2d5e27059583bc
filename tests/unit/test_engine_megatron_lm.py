"""The megatron-lm engine: every flag exists in its release, and nothing is dropped."""

import pytest
import yaml

from orchestrator import api
from orchestrator.catalog.cards import model_card
from orchestrator.engines.megatron_lm.flags import RELEASES, complaint, flags_of
from orchestrator.engines.megatron_lm.releases import NEWEST, TABLES
from orchestrator.errors import EngineRefused, UnknownName
from orchestrator.records.bundle import EngineBundle

BASE = {
    "schema": 1,
    "name": "r",
    "model": "llama-3.1-8b",
    "cluster": {"card": "dgx-h100", "hosts": 4},
    "training": {"sequence_length": 4096, "global_batch_size": 256, "steps": 1000},
    "layout": {"tp": 4, "pp": 2, "sequence_parallel": True, "overlap": ["dp"]},
    "engine": {"name": "megatron-lm", "checkout": "/opt/megatron-lm"},
    "data": {"prefix": "/data/text", "split": "99,1,0"},
    "checkpoint": {"interval_steps": 100},
}


def rendered(release: str = NEWEST, **sections: object) -> EngineBundle:
    document = {**BASE, **sections}
    document["engine"] = {**document["engine"], "version": release}
    run = api.read_run(yaml.safe_dump(document), file="run.yaml")
    engine = api.engine_named("megatron-lm")
    plan = api.plan(run, capabilities=engine.capabilities(), keep=1).plans[0]
    return engine.render(plan)


def words_after(bundle: EngineBundle, flag: str) -> tuple[str, ...]:
    start = bundle.argv.index(flag) + 1
    rest = bundle.argv[start:]
    end = next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))
    return rest[:end]


@pytest.mark.parametrize("release", RELEASES)
def test_every_row_of_a_table_is_an_option_of_its_release(release):
    rows = [row for section in TABLES[release] for row in section.rows]

    assert [row.flag for row in rows if row.flag not in flags_of(release)] == []


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt3-175b", "qwen3-8b", "nemotron-4-15b"])
def test_every_rendered_option_takes_the_words_it_is_given(release, model):
    training = {"sequence_length": 2048, "global_batch_size": 256, "steps": 1000}

    bundle = rendered(release, model=model, training=training)

    flags = [word for word in bundle.argv if word.startswith("--")]
    assert len(flags) == len(set(flags))
    for flag in flags:
        assert complaint(release, flag, words_after(bundle, flag)) is None


def test_shape_is_written_also_where_a_default_would_fit():
    bundle = rendered()

    assert words_after(bundle, "--num-query-groups") == ("8",)
    assert words_after(bundle, "--kv-channels") == ("128",)
    assert words_after(bundle, "--hidden-dropout") == ("0.0",)
    assert words_after(bundle, "--rope-scaling-factor") == ("8",)
    assert words_after(bundle, "--eval-iters") == ("0",)
    assert "--swiglu" in bundle.argv


def test_same_ramp_is_spelled_as_each_release_reads_it():
    training = {
        **BASE["training"],
        "batch_ramp": [
            {"from_samples": 0, "global_batch_size": 128},
            {"from_samples": 12800, "global_batch_size": 256},
        ],
    }

    old, new = (rendered(release, training=training) for release in ("0.17.1", "0.18.2"))

    assert words_after(old, "--rampup-batch-size") == ("128", "128", "12800")
    assert words_after(old, "--global-batch-size") == ("256",)
    assert words_after(new, "--step-batch-size-schedule") == ("0:128 52428800:256",)
    assert "--global-batch-size" not in new.argv
    # 100 steps of 128, then 900 of 256; iterations of unequal size cannot count the decay.
    assert words_after(new, "--train-samples") == (str(100 * 128 + 900 * 256),)
    assert "--train-iters" not in new.argv


def test_uneven_ramp_is_refused_where_the_release_cannot_say_it():
    training = {
        **BASE["training"],
        "batch_ramp": [
            {"from_samples": 0, "global_batch_size": 64},
            {"from_samples": 12800, "global_batch_size": 128},
            {"from_samples": 19200, "global_batch_size": 256},
        ],
    }

    with pytest.raises(EngineRefused, match=r"training.batch_ramp: 0\.17\.1 ramps in equal"):
        rendered("0.17.1", training=training)
    assert "--step-batch-size-schedule" in rendered("0.19.2", training=training).argv


def test_zero_3_is_megatron_fsdp_with_all_it_needs():
    bundle = rendered(layout={"zero_stage": 3, "overlap": ["dp"]})

    assert words_after(bundle, "--data-parallel-sharding-strategy") == ("optim_grads_params",)
    assert words_after(bundle, "--ckpt-format") == ("fsdp_dtensor",)
    assert "--async-save" not in bundle.argv
    assert dict(bundle.env)["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"


def test_one_hardware_queue_where_megatron_asserts_it_and_only_there():
    assert dict(rendered().env)["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"
    plain = rendered(layout={"tp": 1, "pp": 2, "micro_batch_size": 1})
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in dict(plain.env)


def test_blend_is_written_as_weights_and_prefixes():
    blend = [{"prefix": "/d/a", "weight": 3}, {"prefix": "/d/b", "weight": 1}]

    bundle = rendered(data={"blend": blend, "split": "99,1,0"})

    assert words_after(bundle, "--data-path") == ("3.0", "/d/a", "1.0", "/d/b")


def test_unknown_release_is_refused_with_those_that_exist():
    with pytest.raises(UnknownName, match=r"0\.19\.2"):
        rendered("0.15.0")


def test_absent_checkout_is_refused_with_what_to_write():
    with pytest.raises(EngineRefused, match=r"engine\.checkout is absent"):
        rendered(engine={"name": "megatron-lm"})


def test_own_options_are_checked_against_the_release():
    good = {**BASE["engine"], "arguments": ["--log-params-norm", "--num-workers", "4"]}
    engine = {
        **BASE["engine"],
        "arguments": ["--gpu-sniff-test-interval", "10", "--moe-extnded-tp"],
    }

    bundle = rendered(engine=good)
    assert "--log-params-norm" in bundle.argv
    assert bundle.argv.count("--num-workers") == 1
    assert words_after(bundle, "--num-workers") == ("4",)
    with pytest.raises(EngineRefused, match="--gpu-sniff-test-interval") as refused:
        rendered("0.17.1", engine=engine)
    assert "it is an option of 0.18.2, 0.19.2" in str(refused.value)
    assert "--moe-extnded-tp is not an option of 0.17.1" in str(refused.value)


@pytest.mark.parametrize(
    ("model", "field"),
    [("gemma-2-9b", "final_logit_softcap"), ("falcon-180b", "parallel_attention")],
)
def test_model_that_no_option_describes_is_refused_by_name(model, field):
    training = {**BASE["training"], "sequence_length": 2048}
    document = {**BASE, "model": model, "training": training, "layout": {"tp": 1}}
    run = api.read_run(yaml.safe_dump(document), file="run.yaml")
    capabilities = api.engine_named("megatron-lm").capabilities()

    problems = api.problems(run, layout=run.layout, capabilities=capabilities)

    assert any(field in str(problem) for problem in problems)


def test_own_option_that_the_run_file_says_already_is_refused():
    engine = {**BASE["engine"], "arguments": ["--tensor-model-parallel-size", "8"]}

    with pytest.raises(EngineRefused, match="--tensor-model-parallel-size is written from"):
        rendered(engine=engine)


def test_every_part_of_the_command_has_its_reason():
    bundle = rendered()

    explained = {reason.part for reason in bundle.reasons}
    assert {word for word in bundle.argv if word.startswith("--")} <= explained
    assert {name for name, _ in bundle.env} <= explained


@pytest.mark.parametrize("release", RELEASES)
def test_embedding_has_the_rows_that_the_memory_model_counts(release):
    # 32,768 is a multiple of 128 x tp: one token more would be a whole padding step.
    training = {**BASE["training"], "sequence_length": 4096}
    bundle = rendered(release, model="mixtral-8x22b", training=training)

    assert words_after(bundle, "--padded-vocab-size") == ("32768",)


def of_model(name: str, **changes: object) -> EngineBundle:
    card = model_card(name).model_dump(mode="json", exclude_none=True)
    training = {**BASE["training"], "sequence_length": 2048}
    layout = {"ep": 4, "etp": 1, "pp": 1}
    return rendered(model={**card, **changes}, training=training, layout=layout)


def test_latent_attention_without_yarn_is_not_stretched():
    bundle = of_model("deepseek-v2-lite", rope_scaling=None)

    assert words_after(bundle, "--rope-type") == ("rope",)
    assert words_after(bundle, "--rotary-scaling-factor") == ("1.0",)
    assert "--no-rope-fusion" in bundle.argv


@pytest.mark.parametrize(("name", "value"), [("beta_fast", 1.0), ("attention_factor", 1.2)])
def test_number_of_yarn_that_no_option_says_is_refused_by_name(name, value):
    yarn = {**(model_card("deepseek-v2-lite").rope_scaling or {}), name: value}

    with pytest.raises(EngineRefused, match=f"model.rope_scaling.{name}"):
        of_model("deepseek-v2-lite", rope_scaling=yarn)


def test_narrow_states_turn_the_precision_aware_optimizer_on_and_nothing_else_does():
    numerics = {"first_moment": "bf16", "second_moment": "fp8", "master_parameters": "fp16"}

    narrow = rendered(training={**BASE["training"], "numerics": numerics})

    assert "--use-precision-aware-optimizer" in narrow.argv
    assert words_after(narrow, "--exp-avg-dtype") == ("bf16",)
    assert words_after(narrow, "--exp-avg-sq-dtype") == ("fp8",)
    assert words_after(narrow, "--main-params-dtype") == ("fp16",)
    assert words_after(narrow, "--main-grads-dtype") == ("fp32",)
    assert "--use-precision-aware-optimizer" not in rendered().argv


def test_gradients_are_reduced_in_one_format_that_is_always_written():
    narrow = rendered(training={**BASE["training"], "numerics": {"gradients": "bf16"}})

    assert "--grad-reduce-in-bf16" in narrow.argv
    assert "--accumulate-allreduce-grads-in-fp32" not in narrow.argv
    assert "--accumulate-allreduce-grads-in-fp32" in rendered().argv


@pytest.mark.parametrize(
    ("cluster", "recipe", "form"),
    [("dgx-h100", "tensorwise", "hybrid"), ("dgx-b200", "mxfp8", "e4m3")],
)
def test_absent_fp8_recipe_is_that_of_the_accelerator(cluster, recipe, form):
    training = {**BASE["training"], "precision": "fp8", "numerics": {"narrow_parameters": True}}

    bundle = rendered(training=training, cluster={"card": cluster, "hosts": 4})

    assert words_after(bundle, "--fp8-recipe") == (recipe,)
    assert words_after(bundle, "--fp8-format") == (form,)
    assert "--fp8-param-gather" in bundle.argv
    # Without it Megatron cannot gather MXFP8 weights at all.
    assert ("--reuse-grad-buf-for-mxfp8-param-ag" in bundle.argv) is (recipe == "mxfp8")


def test_fault_tolerance_is_started_with_its_own_launcher():
    engine = {**BASE["engine"], "hooks": {"fault_tolerance": True, "stragglers": True}}
    hang = {"hang": {"ceiling_s": 700.0, "phase_s": 2000.0}}

    bundle = rendered(engine=engine, supervise=hang)

    assert {"--enable-ft-package", "--calc-ft-timeouts", "--log-straggler"} <= {*bundle.argv}
    limits = "--ft-rank-section-timeouts=setup:2000,step:700,checkpointing:2000"
    assert bundle.torchrun[:2] == ("ft_launcher", limits)
    assert rendered().torchrun == ("torchrun",)


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"checkpoint": None}, "needs the section checkpoint"),
        ({"arguments": ["--inprocess-restart"]}, "ft_launcher restarts ranks, and so does"),
    ],
    ids=["checkpoint", "inprocess"],
)
def test_fault_tolerance_is_refused_where_it_cannot_work(sections, named):
    own = {"arguments": sections.pop("arguments", [])}
    engine = {**BASE["engine"], "hooks": {"fault_tolerance": True}, **own}

    with pytest.raises(EngineRefused, match=named):
        rendered(engine=engine, **sections)


def test_what_only_a_supervisor_does_is_named():
    bundle = rendered(supervise={"max_restarts": 9}, checkpoint={"interval_steps": 100, "keep": 7})

    assert {one.key for one in bundle.unsaid} == {"supervise", "checkpoint.keep"}
    assert rendered().unsaid == ()
