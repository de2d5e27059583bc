"""What a rank computes on, as a value: everything that differs by device follows from it."""

import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Kind(StrEnum):
    """Where tensors live."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device and what is installed for it; `capability` and `cuda` are None on a CPU."""

    kind: Kind
    transformer_engine: bool = False
    capability: tuple[int, int] | None = None
    cuda: tuple[int, int] | None = None

    @classmethod
    def here(cls) -> Self:
        """The device of this process; Transformer Engine counts when torch has a GPU for it."""
        import torch

        if not torch.cuda.is_available():
            return cls(kind=Kind.CPU)
        major, minor = (torch.version.cuda or "0.0").split(".")[:2]
        return cls(
            kind=Kind.CUDA,
            transformer_engine=importlib.util.find_spec("transformer_engine") is not None,
            capability=torch.cuda.get_device_capability(),
            cuda=(int(major), int(minor)),
        )

    @property
    def is_gpu(self) -> bool:
        """Whether tensors live on a GPU."""
        return self.kind is Kind.CUDA

    @property
    def backend(self) -> str:
        """The library that carries the collectives."""
        return "nccl" if self.is_gpu else "gloo"
