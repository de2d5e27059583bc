"""Trains a toy with DeepSpeed on CPUs and saves it, or loads what was saved; ranks are forked.

deepspeed_saves.py JOBS     a JSON list of {"ranks", "config", "pp", "folder", "load"}
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

TOKENS, WIDTH, LAYERS, BATCH = 32, 16, 3, 4


def main() -> None:
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed
    import torch

    torch.set_num_threads(1)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    for job in json.loads(sys.argv[1]):
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
        pids = [forked(rank, port, job) for rank in range(job["ranks"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert set(codes) == {0}, f"{job}: {codes}"


def forked(rank: int, port: int, job: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(job["ranks"]),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        trained(rank, job)
        code = 0
    except BaseException:  # noqa: BLE001  a fork must never return into the loop
        import traceback

        traceback.print_exc()
    os._exit(code)


def trained(rank: int, job: dict[str, Any]) -> None:
    import deepspeed
    import torch

    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    engine = engine_of(job)
    if job.get("load"):
        path, _ = engine.load_checkpoint(job["load"])
        assert path is not None
    loss = stepped(engine, rank, job)
    if job.get("folder"):
        engine.save_checkpoint(job["folder"])
    mean = loss.detach().float().clone()
    torch.distributed.all_reduce(mean)
    if rank == 0 and job.get("loss"):
        value = float(mean) / job["ranks"]
        Path(job["loss"]).write_text(json.dumps([value, engine.global_steps]))
    torch.distributed.barrier()


def engine_of(job: dict[str, Any]) -> Any:
    import deepspeed
    import torch

    torch.manual_seed(1)
    layers = [torch.nn.Embedding(TOKENS, WIDTH)]
    layers += [torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    layers += [torch.nn.Linear(WIDTH, TOKENS)]
    model = torch.nn.Sequential(*layers)
    if job["pp"] > 1:
        model = deepspeed.pipe.PipelineModule(layers, num_stages=job["pp"], loss_fn=loss_of)
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=list(model.parameters()), config=job["config"]
    )
    return engine


def stepped(engine: Any, rank: int, job: dict[str, Any]) -> Any:
    """Return the loss of one step on this rank's share of the batch."""
    import torch

    tokens = torch.arange(BATCH * 8).view(BATCH, 8) % TOKENS
    if job["pp"] > 1:
        return engine.train_batch(iter([(tokens, tokens)]))
    share = BATCH // job["ranks"]
    mine = tokens[rank * share : (rank + 1) * share]
    loss = loss_of(engine(mine), mine)
    engine.backward(loss)
    engine.step()
    return loss


def loss_of(output: Any, tokens: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(output.float().flatten(0, 1), tokens.flatten())


if __name__ == "__main__":
    main()
