"""A `config.json` that remembers which of its keys were read."""

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from orchestrator.errors import Problem

Value = TypeVar("Value", int, float, bool, str)

SILENT_KEYS = frozenset(
    {
        *("_attn_implementation_autoset", "_name_or_path", "architectures", "attention_dropout"),
        *(
            "attention_probs_dropout_prob",
            "attn_pdrop",
            "auto_map",
            "bos_token_id",
            "cache_implementation",
        ),
        *("dtype", "embd_pdrop", "eos_token_id", "for_llm_compressor", "gradient_checkpointing"),
        *(
            "hidden_dropout",
            "id2label",
            "initializer_range",
            "is_decoder",
            "label2id",
            "mlp_dropout",
        ),
        *("output_attentions", "output_hidden_states", "output_router_logits", "pad_token_id"),
        *(
            "pretraining_tp",
            "resid_pdrop",
            "return_dict",
            "router_jitter_noise",
        ),
        *(
            "task_specific_params",
            "tokenizer_class",
            "torch_dtype",
            "transformers_version",
            "use_cache",
        ),
    }
)
"""Keys that say nothing of the architecture: storage, inference, dropout, book-keeping."""


class UnreadableConfigError(Exception):
    """A value that the card cannot hold; carries the problem for the file's error."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


class Config:
    """A mapping of JSON values; every getter notes its key, and null counts as absent."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self._read: set[str] = set()

    def unread(self) -> dict[str, object]:
        """Return the keys nobody asked for, in the file's order, without silent ones."""
        known = self._read | SILENT_KEYS
        return {key: value for key, value in self._values.items() if key not in known}

    def has(self, key: str) -> bool:
        """Return whether a key is there with a value."""
        return self._values.get(key) is not None

    def integer(self, *keys: str, default: int | None = None) -> int:
        """Return the first of the keys that is there, as a whole number."""
        return self._first(keys, int, default)

    def number(self, *keys: str, default: float | None = None) -> float:
        """Return the first of the keys that is there, as a number."""
        return self._first(keys, float, default)

    def flag(self, *keys: str, default: bool | None = None) -> bool:
        """Return the first of the keys that is there, as true or false."""
        return self._first(keys, bool, default)

    def text(self, *keys: str, default: str | None = None) -> str:
        """Return the first of the keys that is there, as text."""
        return self._first(keys, str, default)

    def mapping(self, key: str) -> Mapping[str, object]:
        """Return a mapping; an absent one is empty."""
        self._read.add(key)
        value = self._values.get(key)
        return value if isinstance(value, Mapping) else {}

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of words; an absent one is empty."""
        self._read.add(key)
        value = self._values.get(key)
        return tuple(map(str, value)) if isinstance(value, Sequence) else ()

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a list of whole numbers; an absent one is empty."""
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or any(type(number) is not int for number in value):
            raise self.refuse(key, "is no list of whole numbers")
        return tuple(value)

    def expect(self, key: str, value: bool, *, default: bool, reason: str) -> None:
        """Refuse a flag that is not as a card takes for granted."""
        if self.flag(key, default=default) is not value:
            raise UnreadableConfigError(
                Problem(key=key, message=f"{_spelled(self._values.get(key, default))}: {reason}")
            )

    def refuse(self, key: str, reason: str) -> UnreadableConfigError:
        """Return the error that a key's value has no place in a card."""
        value = self._values.get(key)
        return UnreadableConfigError(Problem(key=key, message=f"{_spelled(value)}: {reason}"))

    def _first(self, keys: Sequence[str], kind: type[Value], default: Value | None) -> Value:
        self._read.update(keys)
        for key in keys:
            value = self._values.get(key)
            if value is None:
                continue
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if kind is int and isinstance(value, float) and value.is_integer():
                value = int(value)  # rope_theta is written 1000000.0
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise self.refuse(key, f"is no {_WORDS[kind]}")
            return value
        if default is None:
            raise UnreadableConfigError(Problem(key=keys[0], message="is required and absent"))
        return default


def _spelled(value: object) -> str:
    return json.dumps(value, default=str)


_WORDS: Mapping[type, str] = {
    int: "whole number",
    float: "number",
    bool: "truth value",
    str: "text",
}
