"""Our orders and layouts against the pure functions of the installed engines."""

import itertools
import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.schedules import legal, stage_grammar, stages
from orchestrator.schedules.actions import Action, ActionKind
from orchestrator.schedules.balance import Piece, Pieces, Pipeline, balanced
from orchestrator.schedules.schedule import arranged
from orchestrator.schedules.stage_ends import with_own_ends
from orchestrator.schedules.stages import Stage, StageLayout, accounted, even, text_of
from orchestrator.specs.choices import ScheduleKind

schedules = pytest.importorskip("megatron.core.pipeline_parallel.schedules")
cuda_graphs = pytest.importorskip("megatron.core.transformer.cuda_graphs")
layer_layout = pytest.importorskip("megatron.core.transformer.pipeline_parallel_layer_layout")
block = pytest.importorskip("megatron.core.transformer.transformer_block")
pipelining = pytest.importorskip("torch.distributed.pipelining.schedules")

MegatronLayout = layer_layout.PipelineParallelLayerLayout
LETTERS = {"embedding": "E", "decoder": "t", "mtp": "m", "loss": "L"}


def communicator(pp: int, rank: int) -> SimpleNamespace:
    group = SimpleNamespace(size=lambda: pp, rank=lambda: rank)
    return SimpleNamespace(pp_group=group, virtual_pipeline_model_parallel_size=2)


def megatron_order(pp: int, vpp: int, m: int, g: int, rank: int) -> list[Action]:
    """Return the actions that Megatron's tables spell for a rank."""
    table = schedules.get_schedule_table(m, vpp, g)
    _, _, warmup, _ = schedules.get_pp_rank_microbatches(
        m, vpp, g, p2p_communicator=communicator(pp, rank)
    )
    forwards = iter(table)
    backwards = iter(table)
    actions = []
    for code in cuda_graphs.convert_schedule_table_to_order(warmup, vpp, table):
        # A positive code is a forward of chunk code - 1, a negative one a backward.
        microbatch, _ = next(forwards if code > 0 else backwards)
        actions.append(
            Action(
                kind=ActionKind.FORWARD if code > 0 else ActionKind.BACKWARD,
                stage=(abs(code) - 1) * pp + rank,
                microbatch=microbatch,
            )
        )
    return actions


def test_interleaved_orders_equal_megatrons_tables():
    compared = 0
    for pp, vpp in itertools.product(range(2, 7), (2, 3, 4)):
        for g in range(pp, pp + 5):
            for m in range(g, 3 * g + 1):
                words = {"pp": pp, "vpp": vpp, "num_microbatches": m, "microbatch_group_size": g}
                if legal.refusal(ScheduleKind.INTERLEAVED, **words) is not None:
                    continue
                schedule = arranged(ScheduleKind.INTERLEAVED, **words)
                for rank in range(pp):
                    ours = list(schedule.order(rank))
                    assert ours == megatron_order(pp, vpp, m, g, rank), (words, rank)
                    compared += 1

    assert compared >= 1000


def test_action_texts_are_torchs():
    for text in ("4F0", "3B1", "0B12"):
        stage, kind, microbatch = text[0], text[1], text[2:]
        ours = Action(kind=ActionKind(kind), stage=int(stage), microbatch=int(microbatch))

        assert str(pipelining._Action.from_str(str(ours))) == text


def letters_of(layout: list[list]) -> tuple[str, ...]:
    return tuple("".join(LETTERS[layer.name] for layer in stage) for stage in layout)


some_stages = st.builds(
    Stage,
    has_embedding=st.booleans(),
    decoder_layers=st.integers(0, 6),
    mtp_layers=st.integers(0, 2),
    has_loss=st.booleans(),
)
layouts = st.lists(st.tuples(some_stages, st.integers(1, 9)), min_size=1, max_size=6).map(
    lambda runs: StageLayout(stages=tuple(stage for stage, count in runs for _ in range(count)))
)


@settings(deadline=None)
@given(layouts)
def test_megatron_parses_our_layout_texts_to_the_same_stages(layout):
    theirs = MegatronLayout.parse_str_to_list(text_of(layout))

    assert letters_of(theirs) == tuple(stage.letters for stage in layout.stages)


def megatron_stages(text: str) -> tuple[str, ...] | None:
    try:
        return letters_of(MegatronLayout.parse_str_to_list(text))
    except AssertionError:
        return None


def our_stages(text: str) -> tuple[str, ...] | None:
    try:
        return stage_grammar.unrolled(text)
    except UsageError:
        return None


PIECES = ("E", "t", "|", "m", "L", "t*2", "|*3", "(t|)*2", "(Et*2|,m)*3", "(|)*0")
STRAYS = ("(", ")", ")*2", "*", "*2", "3", ",", " ", "x")


@settings(deadline=None, max_examples=1000)
@given(st.lists(st.sampled_from(PIECES * 3 + STRAYS), max_size=8).map("".join))
def test_texts_are_read_as_megatron_reads_them(text):
    # What Megatron's substitutions let through by accident: see stage_grammar.
    accident = re.search(r"\*\d+\*|\([^)]*\(", text.replace(",", ""))
    theirs = None if accident else megatron_stages(text)

    assert our_stages(text) == theirs


def megatron_takes(text: str, *, pp: int, num_layers: int, mtp_num_layers: int) -> bool:
    try:
        layout = MegatronLayout(text, pp)
        layout.validate_layer_layout(num_layers=num_layers, mtp_num_layers=mtp_num_layers)
    except (AssertionError, NotImplementedError):
        return False
    return True


@st.composite
def nearly_sound_texts(draw: st.DrawFn) -> str:
    """Return stages of t and m with E and L near the ends, one letter perhaps astray."""
    parts = draw(st.lists(st.sampled_from(["", "t", "tt", "t", "m", "tm"]), min_size=4, max_size=4))
    letters = list("E" + "|".join(parts) + "L")
    if draw(st.booleans()):
        place = draw(st.integers(0, len(letters) - 1))
        letters[place] = draw(st.sampled_from(["E", "L", "t", "m", ""]))
    return "".join(letters)


@settings(deadline=None, max_examples=1000)
@given(nearly_sound_texts(), st.sampled_from([1, 2, 4]))
def test_layouts_are_refused_exactly_where_megatron_refuses(text, pp):
    num_layers, mtp_num_layers = text.count("t"), text.count("m")
    vpp = max(1, (text.count("|") + 1) // pp)

    refused = stages.text_refusal(
        text, pp=pp, vpp=vpp, num_layers=num_layers, mtp_num_layers=mtp_num_layers
    )

    taken = megatron_takes(text, pp=pp, num_layers=num_layers, mtp_num_layers=mtp_num_layers)
    assert (refused is None) == taken, refused


@pytest.mark.parametrize("text", ["|Et|t|ttL", "Et|t|ttL|"])
def test_we_are_stricter_where_megatron_builds_the_ends_elsewhere_than_it_says(text):
    assert megatron_takes(text, pp=2, num_layers=4, mtp_num_layers=0)
    assert stages.text_refusal(text, pp=2, vpp=2, num_layers=4) is not None


@pytest.mark.parametrize(
    ("num_layers", "pp", "vpp"),
    [(126, 16, 8), (126, 16, 1), (30, 4, 2), (31, 4, 2), (31, 4, 1), (32, 4, 2), (6, 4, 2)],
)
def test_layers_on_stages_equal_what_megatron_builds(num_layers, pp, vpp):
    num_stages = pp * vpp
    divides = num_layers % num_stages == 0
    layout = (even if divides else accounted)(num_layers, num_stages=num_stages)
    assert layout is not None
    config = SimpleNamespace(
        pipeline_model_parallel_layout=None,
        num_layers_in_first_pipeline_stage=None,
        num_layers_in_last_pipeline_stage=None,
        num_layers=num_layers,
        pipeline_model_parallel_size=pp,
        virtual_pipeline_model_parallel_size=vpp if vpp > 1 else None,
        account_for_embedding_in_pipeline_split=(num_layers + 2) % num_stages == 0,
        account_for_loss_in_pipeline_split=not divides,
    )

    built = [
        block.get_num_layers_to_build(
            config, vp_stage=stage // pp if vpp > 1 else None, pp_rank=stage % pp
        )
        for stage in range(num_stages)
    ]

    assert [stage.decoder_layers for stage in layout.stages] == built


def ends_config(num_layers: int, *, pp: int, vpp: int, first: int | None, last: int | None):
    return SimpleNamespace(
        pipeline_model_parallel_layout=None,
        num_layers_in_first_pipeline_stage=first,
        num_layers_in_last_pipeline_stage=last,
        num_layers=num_layers,
        pipeline_model_parallel_size=pp,
        virtual_pipeline_model_parallel_size=vpp if vpp > 1 else None,
        account_for_embedding_in_pipeline_split=False,
        account_for_loss_in_pipeline_split=False,
    )


def test_own_ends_are_what_megatron_builds_and_refuses():
    answers = set()
    for num_layers, pp, vpp in itertools.product((8, 15, 22), (2, 3, 4), (1, 2)):
        for first, last in itertools.product((None, 2, 3, 4), (None, 2, 5)):
            if first is None and last is None:
                continue
            words = {"pp": pp, "vpp": vpp, "first": first, "last": last}
            config = ends_config(num_layers, **words)
            try:
                built = [
                    block.get_num_layers_to_build(
                        config, vp_stage=stage // pp if vpp > 1 else None, pp_rank=stage % pp
                    )
                    for stage in range(pp * vpp)
                ]
                # It builds a stage of -1 layers, or forgets layers, without a word: we refuse.
                built = built if sum(built) == num_layers and min(built) >= 0 else None
            except AssertionError:
                built = None
            try:
                layout = with_own_ends(num_layers, **words)
                ours = [stage.decoder_layers for stage in layout.stages]
            except UsageError:
                ours = None

            assert ours == built, (num_layers, words)
            answers.add(ours is None)

    assert answers == {True, False}


def test_megatron_parses_and_takes_the_layouts_that_balance():
    layer = Piece(forward_ns=100, backward_ns=200)
    for layers, mtp, pp, vpp in ((30, 0, 4, 1), (11, 1, 3, 1), (14, 1, 2, 2), (9, 0, 4, 1)):
        kind = ScheduleKind.INTERLEAVED if vpp > 1 else ScheduleKind.ONE_F_ONE_B
        found = balanced(
            Pieces(
                embedding=Piece(forward_ns=5, backward_ns=5),
                layers=(layer,) * layers,
                loss=Piece(forward_ns=210, backward_ns=420),
                mtp=(layer,) * mtp,
            ),
            pipeline=Pipeline(
                kind=kind, pp=pp, vpp=vpp, num_microbatches=4 * pp, microbatch_group_size=pp
            ),
            budget=500,
        )
        text = text_of(found.layout)

        assert megatron_takes(text, pp=pp, num_layers=layers, mtp_num_layers=mtp), text
        assert letters_of(MegatronLayout.parse_str_to_list(text)) == tuple(
            stage.letters for stage in found.layout.stages
        )
