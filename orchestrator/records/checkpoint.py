"""What is known of a checkpoint on storage, without its tensors."""

from dataclasses import dataclass
from enum import StrEnum


class CheckpointFormat(StrEnum):
    """Who wrote it, and how."""

    LLMORCH = "llmorch-torch-dist"
    TORCH_DIST = "megatron-torch-dist"
    LEGACY = "megatron-legacy"
    DEEPSPEED = "deepspeed"
    UNIVERSAL = "deepspeed-universal"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """A checkpoint's own words: what it says of itself is taken over, never guessed.

    `folder` is where its files lie, `flaws` say what is missing or cut off; without one it is
    complete. `degrees` are those of its layout that it names (tp, pp, cp, dp, ep, vpp),
    `parameters` the elements of the weights that it holds. `reshards_optimizer` is whether
    optimizer states load into another tp and pp. `model` are sizes by our names.
    """

    format: CheckpointFormat
    folder: str
    size_bytes: int
    num_files: int
    flaws: tuple[str, ...]
    step: int | None
    samples: int | None
    sequence_length: int | None
    parameters: int | None
    degrees: dict[str, int]
    world_size: int | None
    zero_stage: int | None
    precision: str | None
    written_by: str | None
    reshards_optimizer: bool
    model: dict[str, int]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing or cut off."""
        return not self.flaws

    @property
    def tokens(self) -> int | None:
        """Tokens that were trained on before it, where the checkpoint says enough."""
        if self.samples is None or self.sequence_length is None:
            return None
        return self.samples * self.sequence_length
