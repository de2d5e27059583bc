"""One gloo rank that runs tables of ours through torch's runtime and compares its gradients.

Started by test_schedules_run.py: `csv_rank.py RANK FOLDER`; writes FOLDER/result-RANK.json.
"""

import copy
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime

WIDTH, SAMPLES = 6, 2


def loss_of(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.mse_loss(output, target)


def sequential(layers: list[torch.nn.Module], inputs, targets, m: int) -> None:
    """Leave in the layers the gradients of the mean over microbatches, computed one by one."""
    whole = torch.nn.Sequential(*layers)
    for sample, target in zip(inputs.chunk(m), targets.chunk(m), strict=True):
        (loss_of(whole(sample), target) / m).backward()


def largest_error(case: dict, rank: int) -> float:
    torch.manual_seed(7)
    m, num_stages = case["microbatches"], case["stages"]
    layers = [
        torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh())
        for _ in range(num_stages)
    ]
    inputs, targets = torch.randn(m * SAMPLES, WIDTH), torch.randn(m * SAMPLES, WIDTH)
    reference = copy.deepcopy(layers)
    sequential(reference, inputs, targets, m)
    mine = case["of_rank"][rank]
    stages = [PipelineStage(layers[s], s, num_stages, torch.device("cpu")) for s in mine]
    runtime = _PipelineScheduleRuntime(stages, m, loss_fn=loss_of, scale_grads=True)
    runtime._load_csv(case["csv"], format="compute_only")
    said = {"target": targets} if num_stages - 1 in mine else {}
    runtime.step(*((inputs,) if 0 in mine else ()), **said)
    return max(
        (ours.grad - theirs.grad).abs().max().item()
        for stage in mine
        for ours, theirs in zip(
            layers[stage].parameters(), reference[stage].parameters(), strict=True
        )
    )


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    cases = json.loads((folder / "cases.json").read_text())
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=4)
    errors = {case["name"]: largest_error(case, rank) for case in cases}
    (folder / f"result-{rank}.json").write_text(json.dumps(errors))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
