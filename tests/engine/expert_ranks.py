"""Runs four real ranks of Megatron with experts over gloo and records what they call.

A program of its own: imports Megatron once, forks the ranks, each of which answers the questions
of its line. Routing is balanced by a stand-in: token i goes to the next k experts in turn.

    expert_ranks.py FOLDER < QUESTIONS      one JSON list of questions a rank; answers: FOLDER/RANK
"""

import json
import os
import sys
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist

from launch.workers.closed_json import read_object
from launch.workers.engine_check.questions import Question
from launch.workers.engine_check.recorder import Recorder
from launch.workers.megatron_core import shim

warnings.filterwarnings("ignore")
shim.install()
RECORDER = Recorder(passes_on=True)
RECORDER.install()

from megatron.core import parallel_state  # noqa: E402  after the shim
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed  # noqa: E402
from megatron.core.transformer.moe import router  # noqa: E402

from launch.workers.engine_check import megatron_rank  # noqa: E402
from launch.workers.megatron_core import patches  # noqa: E402
from orchestrator.specs.model import ModelCard  # noqa: E402


def balanced(logits, topk, **_):
    tokens, experts = logits.shape
    chosen = torch.arange(tokens * topk).view(tokens, topk) % experts
    routing_map = torch.zeros(tokens, experts).scatter(1, chosen, 1).bool()
    return logits.softmax(dim=-1) * routing_map, routing_map


def recorded(question, store):
    dist.init_process_group("gloo", store=store, rank=question.rank, world_size=question.world_size)
    try:
        megatron_rank.make_groups(question)
        model_parallel_cuda_manual_seed(1, force_reset_rng=True)
        card = ModelCard.model_validate_json(json.dumps(question.model))
        calls = megatron_rank.recorded_step(question, card, RECORDER, device=torch.device("cpu"))
        dist.barrier()
        return [asdict(call) for call in calls]
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def run_rank(rank, questions, folder):
    answers = [
        recorded(
            read_object(Question, question),
            dist.FileStore(str(folder / f"store-{number}"), question["world_size"]),
        )
        for number, question in enumerate(questions)
    ]
    (folder / str(rank)).write_text(json.dumps(answers))


def main():
    folder = Path(sys.argv[1])
    patches.apply()
    router.topk_routing_with_score_function = balanced
    ranks = {}
    for rank, line in enumerate(sys.stdin):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run_rank(rank, json.loads(line), folder)
                code = 0
            except Exception:  # noqa: BLE001  a fork must not return into its parent's code
                traceback.print_exc()
            finally:
                os._exit(code)
        ranks[pid] = rank
    failed = [ranks[pid] for pid in ranks if os.waitpid(pid, 0)[1]]
    sys.exit(f"ranks {failed} failed" if failed else 0)


if __name__ == "__main__":
    main()
