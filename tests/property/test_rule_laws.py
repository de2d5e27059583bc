"""Laws of the table of rules, for any layout of any model: no crash, and what is said is true."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.records.engine import MEGATRON_FAMILY
from orchestrator.rules.rule import Severity
from orchestrator.rules.table import breaches, first_broken, first_violation, violations, warnings
from tests.unit.broken_runs import DENSE, Document, applied, changed, found, run_of

SMALL = st.integers(1, 24)
MODULES = ("core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe", "shared_experts")

RECOMPUTE = st.one_of(
    st.just({"granularity": "none"}),
    st.builds(lambda n: {"granularity": "full", "layers": n}, SMALL),
    st.builds(
        lambda names: {"granularity": "selective", "modules": names},
        st.lists(st.sampled_from(MODULES), min_size=1, max_size=3, unique=True),
    ),
)
LAYOUT = st.fixed_dictionaries(
    {},
    optional={
        "tp": SMALL,
        "pp": SMALL,
        "cp": st.integers(1, 4),
        "ep": SMALL,
        "etp": SMALL,
        "vpp": st.integers(1, 5),
        "microbatch_group_size": SMALL,
        "micro_batch_size": st.integers(1, 4),
        "zero_stage": st.integers(0, 3),
        "zero_replicas": st.integers(1, 4),
        "overlap": st.lists(st.sampled_from(["dp", "pp", "tp"]), unique=True),
        "cp_comm_type": st.sampled_from(["p2p", "a2a", "allgather"]),
        "sequence_parallel": st.booleans(),
        "recompute": RECOMPUTE,
        "schedule": st.sampled_from(
            ["no-pipeline", "1f1b", "interleaved-1f1b", "combined-1f1b", "zb-v", "gpipe"]
        ),
        "stage_layout": st.sampled_from(["E|(t|)*40,L", "Et*20|t*20L", "t", "E", "Et|t|L"]),
    },
)
TRAINING = st.fixed_dictionaries(
    {
        "sequence_length": st.integers(1, 9000),
        "global_batch_size": st.integers(1, 600),
        "steps": st.integers(1, 50),
        "precision": st.sampled_from(["fp32", "bf16", "fp8"]),
    },
    optional={"optimizer": st.builds(lambda n: {"warmup_steps": n}, st.integers(0, 60))},
)
MODEL = st.sampled_from(["llama-2-13b", "mixtral-8x7b", "gpt3-175b", "tiny-gpt", "qwen3-30b-a3b"])


def document(model: str, layout: dict[str, Any], training: dict[str, Any]) -> Document:
    return changed(DENSE, {"model": model, "layout": layout, "training": training})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(model=MODEL, layout=LAYOUT, training=TRAINING)
def test_every_value_that_a_message_suggests_mends_what_it_was_said_of(model, layout, training):
    broken = document(model, layout, training)

    for rule, breach in found(broken, MEGATRON_FAMILY):
        for change in breach.passing:
            after = found(applied(broken, change), MEGATRON_FAMILY)
            left = {(name, one.key, one.said.get("layer")) for name, one in after}
            assert (rule, breach.key, breach.said.get("layer")) not in left, change


@settings(max_examples=60, deadline=None, derandomize=True)
@given(model=MODEL, layout=LAYOUT, training=TRAINING)
def test_the_quick_search_and_the_whole_list_say_the_same(model, layout, training):
    run = run_of(document(model, layout, training))
    assert run.layout is not None

    listed = violations(run, run.layout, capabilities=MEGATRON_FAMILY)
    quick = first_broken(run, run.layout, capabilities=MEGATRON_FAMILY)

    assert (quick is None) == (not listed)
    assert first_violation(run, run.layout, capabilities=MEGATRON_FAMILY) == next(
        iter(listed), None
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(model=MODEL, layout=LAYOUT, training=TRAINING)
def test_errors_and_warnings_do_not_mix_and_every_line_is_whole(model, layout, training):
    run = run_of(document(model, layout, training))
    assert run.layout is not None

    errors = {
        rule.id
        for rule, _ in breaches(
            run, run.layout, capabilities=MEGATRON_FAMILY, severity=Severity.ERROR
        )
    }
    told = warnings(run, run.layout, capabilities=MEGATRON_FAMILY)

    assert not errors & {warning.rule for warning in told}
    for problem in (*told, *violations(run, run.layout, capabilities=MEGATRON_FAMILY)):
        assert problem.key
        assert "{" not in problem.message
        assert not problem.message.endswith(".")
        assert problem.possible
