"""Starts real ranks as an agent would, and keeps what they report.

One process a rank, real gloo, the environment of docs/protocols.md. Every wait has a deadline, and
whatever still runs when a test ends is killed, by pid.
"""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.engine.warm_ranks import WarmRanks

ROOT = Path(__file__).parents[2]
DEADLINE_S = 200.0
WORKER = ("-c", "from launch.workers.megatron_core.main import main; main()")
DATA_WORKER = ("-c", "from launch.workers.data.main import main; main()")

Config = dict[str, Any]


@dataclass(kw_only=True)
class Rank:
    """One started rank: its process and the lines it has sent so far."""

    process: subprocess.Popen[bytes]
    log: Path
    mark_file: Path
    pipe: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with os.fdopen(self.pipe, "rb") as pipe:
            for line in pipe:
                with self.changed:
                    self.lines.append(json.loads(line))
                    self.changed.notify_all()

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == kind]

    def wait_for(self, is_seen: Callable[["Rank"], bool]) -> None:
        """Wait until the lines so far are as wanted."""
        with self.changed:
            seen = self.changed.wait_for(lambda: is_seen(self), timeout=DEADLINE_S)
        assert seen, f"not reported within {DEADLINE_S} s; the log:\n{self.log.read_text()}"

    def wait(self) -> int:
        """Wait for the process and for the last of its lines."""
        code = self.process.wait(timeout=DEADLINE_S)
        self.reader.join(timeout=DEADLINE_S)
        return code


@dataclass(frozen=True, kw_only=True)
class Run:
    """The ranks of one generation."""

    ranks: list[Rank]
    staging: Path

    def finish(self) -> "Run":
        """Wait for every rank; a rank that fails shows its log."""
        for rank in self.ranks:
            code = rank.wait()
            assert code == 0, f"exit code {code}; the log:\n{rank.log.read_text()}"
        return self

    def losses(self, rank: int = 0) -> dict[int, float]:
        return {line["step"]: line["loss"] for line in self.ranks[rank].of_kind("step")}

    def checkpoint(self, step: int) -> Path:
        return self.staging / f"step-{step}"


class Launcher:
    """Starts runs in a folder of their own and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Rank] = []
        self.num_runs = 0

    def start(self, config: Config, *, ranks: int = 1, resume_from: Path | None = None) -> Run:
        self.num_runs += 1
        folder = self.folder / f"run-{self.num_runs}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        common = {
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "LLMORCH_GENERATION": "1",
            "LLMORCH_STAGING_DIR": str(folder / "staging"),
        }
        if resume_from is not None:
            common["LLMORCH_RESUME_FROM"] = str(resume_from)
        return Run(
            ranks=[self._start_rank(r, folder, common) for r in range(ranks)],
            staging=folder / "staging",
        )

    def _start_rank(self, rank: int, folder: Path, common: Mapping[str, str]) -> Rank:
        log, mark_file = folder / f"rank-{rank}.log", folder / f"rank-{rank}.mark"
        reading, writing = os.pipe()
        own = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "LLMORCH_RANK_FD": str(writing),
            "LLMORCH_MARK_FILE": str(mark_file),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *WORKER, "--config", str(folder / "config.json")],
                env=environment(**common, **own),
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
            )
        os.close(writing)
        self.started.append(Rank(process=process, log=log, mark_file=mark_file, pipe=reading))
        return self.started[-1]

    def end(self) -> None:
        for rank in self.started:
            if rank.process.poll() is None:
                rank.process.send_signal(signal.SIGKILL)
            rank.wait()


def environment(**own: str) -> dict[str, str]:
    """What a rank sees: the tests' environment without another launcher's, and its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLMORCH_", "TORCH"))}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **own}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """Runs of one test."""
    own = Launcher(tmp_path)
    yield own
    own.end()


@pytest.fixture(scope="session")
def shared_launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Runs that several tests look at."""
    own = Launcher(tmp_path_factory.mktemp("shared"))
    yield own
    own.end()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmRanks]:
    """Runs whose ranks are forked with the engine imported, at a fraction of the time."""
    own = WarmRanks(tmp_path_factory.mktemp("warm"), environment())
    yield own
    own.end()


@pytest.fixture(scope="session")
def worker_environment() -> Callable[..., dict[str, str]]:
    return environment


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real corpus: the first half megabyte of the standard library."""
    prefix = tmp_path_factory.mktemp("corpus") / "stdlib"
    subprocess.run(
        [sys.executable, *DATA_WORKER, "--prefix", str(prefix), "--limit-bytes", "500000"],
        env=environment(),
        check=True,
        timeout=DEADLINE_S,
    )
    return prefix


MakeConfig = Callable[..., Config]


@pytest.fixture(scope="session")
def gpt(corpus: Path) -> MakeConfig:
    """Makes configurations of a GPT: LayerNorm, learned positions, biases, tied embeddings."""
    return lambda **changes: changed(_gpt(corpus), changes)


@pytest.fixture(scope="session")
def llama(corpus: Path) -> MakeConfig:
    """Makes configurations of a Llama: RMSNorm, rope, gated SiLU, grouped queries, untied."""
    return lambda **changes: changed(changed(_gpt(corpus), LLAMA), changes)


@pytest.fixture(scope="session")
def one_rank_gpt(shared_launcher: Launcher, gpt: MakeConfig) -> Run:
    """Twelve steps of a GPT on one rank: the reference for layouts and precisions."""
    return shared_launcher.start(gpt()).finish()


def changed(config: Config, changes: Mapping[str, Mapping[str, Any]]) -> Config:
    """A copy in which some keys of some sections differ."""
    result = copy.deepcopy(config)
    for section, values in changes.items():
        result[section].update(values)
    return result


def _gpt(corpus: Path) -> Config:
    return {
        "schema": 1,
        "model": {
            "num_layers": 4,
            "hidden_size": 64,
            "ffn_hidden_size": 256,
            "num_attention_heads": 4,
            "num_query_groups": 4,
            "head_dim": 16,
            "vocab_size": 257,
            "padded_vocab_size": 264,
            "max_sequence_length": 32,
            "gated_mlp": False,
            "activation": "gelu",
            "normalization": "LayerNorm",
            "norm_epsilon": 1e-5,
            "position_embedding": "learned_absolute",
            "rotary_base": None,
            "rope_scaling_factor": None,
            "tied_embeddings": True,
            "qkv_bias": True,
            "linear_bias": True,
            "qk_norm": False,
            "init_std": 0.02,
            "moe": None,
        },
        "parallel": {
            "tp": 1,
            "pp": 1,
            "vpp": 1,
            "cp": 1,
            "cp_comm_type": None,
            "ep": 1,
            "etp": 1,
            "sequence_parallel": False,
            "microbatch_group_size": None,
            "stage_layout": None,
            "token_dispatcher": "alltoall",
            "zero_stage": 1,
            "overlap": [],
        },
        "recompute": {"granularity": "none", "modules": [], "layers": None},
        "training": {
            "sequence_length": 32,
            "micro_batch_size": 2,
            "global_batch_size": 8,
            "batch_ramp": [],
            "steps": 12,
            "precision": "fp32",
            "fp8_recipe": None,
            "seed": 7,
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
            "optimizer": {
                "learning_rate": 3e-3,
                "min_learning_rate": 3e-4,
                "initial_learning_rate": 0.0,
                "warmup_steps": 2,
                "decay_steps": 100,
                "decay_style": "cosine",
                "wsd_decay_steps": None,
                "wsd_decay_style": None,
                "beta1": 0.9,
                "beta2": 0.95,
                "epsilon": 1e-8,
                "weight_decay": 0.1,
                "clip_grad": 1.0,
            },
            "evaluation": None,
        },
        "data": {
            "sources": [{"prefix": str(corpus), "weight": 1.0}],
            "split": "1,0,0",
            "seed": 7,
            "cache_dir": str(corpus.parent / "cache"),
            "end_of_document": 256,
        },
        "checkpoint": {"interval_steps": 2},
        "logging": {"interval_steps": 1, "tensorboard_dir": None},
    }


LLAMA: dict[str, dict[str, Any]] = {
    "model": {
        "ffn_hidden_size": 160,
        "num_query_groups": 2,
        "gated_mlp": True,
        "activation": "silu",
        "normalization": "RMSNorm",
        "position_embedding": "rope",
        "rotary_base": 10000,
        "tied_embeddings": False,
        "qkv_bias": False,
        "linear_bias": False,
        "qk_norm": True,
    }
}
