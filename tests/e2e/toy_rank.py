"""A rank without an engine: docs/protocols.md, section 1 and 2, written down a second time.

It needs the standard library alone and shares no code with `launch`, so it also proves that the
contract can be met from the page. Ranks meet at a barrier each step, over TCP on the rendezvous
port, so a dead rank breaks the others as a collective would.
"""

import argparse
import json
import mmap
import os
import signal
import socket
import struct
import sys
import time
import zlib
from pathlib import Path

RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
GENERATION = int(os.environ["LLMORCH_GENERATION"])
PIPE = int(os.environ["LLMORCH_RANK_FD"])


def main() -> None:
    args = parse()
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    say(kind="phase", phase="load")
    step = restored_step()
    if args.refuse:
        say(kind="refused", reason=args.refuse)
        sys.exit(5)
    peers = meet()
    marks = Marks()
    say(kind="phase", phase="train")
    while step < args.steps:
        started = time.monotonic()
        step += 1
        signal.sigtimedwait([], args.step_s)
        if args.talk:
            print(f"rank {RANK} did step {step}", flush=True)  # noqa: T201
        misbehave(args, step)
        marks.arrive("barrier", f"world 0-{WORLD - 1}", step=step)
        leaves = barrier(peers, bool(asked))
        report(step, time.monotonic() - started)
        if step % args.save_every == 0 or step == args.steps or leaves:
            stage(step, args, peers)
        if leaves and step < args.steps:
            say(kind="left", step=step)
            return
    say(kind="finished", step=step)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--step-s", type=float, default=0.005)
    parser.add_argument("--save-every", type=int, default=5)
    parser.add_argument("--refuse")
    parser.add_argument("--talk", action="store_true", help="print a line each step")
    parser.add_argument("--fault", help="RANK:GENERATION:STEP:EXIT_CODE", default="")
    parser.add_argument("--hang", help="RANK:GENERATION:STEP, before the barrier", default="")
    parser.add_argument("--save-s", type=float, default=0.0, help="rank 0 takes that long to save")
    parser.add_argument("--forget-file", help="a checkpoint file that gets lost", default="")
    parser.add_argument("--cut-file", help="RANK:STEP:NAME, a file that loses its end", default="")
    parser.add_argument("--spawn-helper", help="where a helper's pid is written")
    args = parser.parse_args()
    if args.spawn_helper:
        spawn_helper(Path(args.spawn_helper))
    return args


def restored_step() -> int:
    folder = os.environ.get("LLMORCH_RESUME_FROM")
    return json.loads(Path(folder, "metadata.json").read_text())["step"] if folder else 0


def meet() -> list[socket.socket]:
    address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if RANK == 0:
        with socket.create_server(address, backlog=WORLD) as server:
            return [server.accept()[0] for _ in range(WORLD - 1)]
    while True:
        try:
            return [socket.create_connection(address, timeout=60)]
        except ConnectionRefusedError:
            signal.sigtimedwait([], 0.01)  # rank 0 does not listen yet


def barrier(peers: list[socket.socket], flag: bool) -> bool:
    """Wait for all ranks; true when any of them raised its flag."""
    mine = b"1" if flag else b"0"
    if RANK == 0:
        flags = [mine, *(receive(peer) for peer in peers)]
        agreed = max(flags)
        for peer in peers:
            peer.sendall(agreed)
        return agreed == b"1"
    peers[0].sendall(mine)
    return receive(peers[0]) == b"1"


def receive(peer: socket.socket) -> bytes:
    data = peer.recv(1)
    if not data:
        sys.exit("a peer is gone")
    return data


def report(step: int, duration_s: float) -> None:
    loss = 10.0 / step if RANK == WORLD - 1 else None
    say(kind="step", step=step, loss=loss, grad_norm=None, learning_rate=1e-3, tokens=1024,
        duration_s=duration_s)  # fmt: skip


def stage(step: int, args: argparse.Namespace, peers: list[socket.socket]) -> None:
    say(kind="phase", phase="save")
    started = time.monotonic()
    folder = Path(os.environ["LLMORCH_STAGING_DIR"], f"step-{step}")
    folder.mkdir(exist_ok=True)
    files = {f"__{RANK}_0.distcp": "weights"}
    if RANK == 0:
        files |= {
            "common.pt": "common",
            ".metadata": "m",
            "metadata.json": json.dumps({"step": step}),
        }
    if RANK == 0:
        signal.sigtimedwait([], args.save_s)
    for name, text in files.items():
        (folder / name).write_text(text)
    written = [
        {"name": name, "size_bytes": len(text.encode()), "crc32": zlib.crc32(text.encode())}
        for name, text in files.items()
    ]
    damage(args, step, folder)
    barrier(peers, False)
    say(kind="checkpoint", step=step, path=str(folder), duration_s=time.monotonic() - started,
        files=written)  # fmt: skip
    say(kind="phase", phase="train")


def damage(args: argparse.Namespace, step: int, folder: Path) -> None:
    """What storage may do to a file that was written, as if it had said that all is well."""
    if args.forget_file and (folder / args.forget_file).exists():
        (folder / args.forget_file).unlink()
    if args.cut_file:
        rank, at_step, name = args.cut_file.split(":")
        if (RANK, step) == (int(rank), int(at_step)):
            os.truncate(folder / name, 3)


def misbehave(args: argparse.Namespace, step: int) -> None:
    if args.fault:
        rank, generation, at_step, code = (int(part) for part in args.fault.split(":"))
        if (RANK, step) == (rank, at_step) and generation in (GENERATION, 0):
            os.write(1, f"toy fault at step {step}\n".encode())
            os._exit(code)
    if args.hang and (RANK, GENERATION, step) == tuple(map(int, args.hang.split(":"))):
        while True:
            signal.pause()


def spawn_helper(note: Path) -> None:
    """Leave a process behind as careless data loaders do, and worse.

    It has a session of its own, its parent is gone, and its environment tells nothing.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        helper = os.fork()
        if helper == 0:
            os.close(PIPE)
            os.execve("/bin/sleep", ("sleep", "600"), {})
        (note.parent / f"{note.name}-{GENERATION}-{RANK}").write_text(str(helper))
        os._exit(0)
    os.waitpid(child, 0)  # whoever sees a rank step can read the note


def say(**line: object) -> None:
    try:
        os.write(PIPE, json.dumps(line).encode() + b"\n")
    except BrokenPipeError:
        os._exit(9)


class Marks:
    def __init__(self) -> None:
        with Path(os.environ["LLMORCH_MARK_FILE"]).open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), 256)
        self.seq = self.count = 0

    def arrive(self, operation: str, group: str, *, step: int) -> None:
        """The toy knows one group, so its label alone tells how far it has come."""
        self.count += 1
        self.mark(f"{operation} {group} #{self.count}", step=step)

    def mark(self, label: str, *, step: int) -> None:
        self.seq += 1
        struct.pack_into("<Q", self.map, 0, 2 * self.seq - 1)
        struct.pack_into(
            "<QQQ96s", self.map, 8, self.seq, step, time.monotonic_ns(), label.encode()
        )
        struct.pack_into("<Q", self.map, 0, 2 * self.seq)


if __name__ == "__main__":
    main()
