"""What turns texts into tokens: bytes, or a Hugging Face `tokenizer.json` on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from launch.workers.data.index_format import token_type
from orchestrator.errors import StorageError, UsageError, nearest

BYTES: Final = "bytes"
END_OF_BYTES: Final = 256
NO_END: Final = "none"
_FILE: Final = "tokenizer.json"
_SHOWN_TOKENS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerChoice:
    """Which tokenizer, and what ends a document.

    `tokenizer` is `bytes` or a path; `end_of_document` a token's text, None where the tokenizer
    has its own (bytes) and `none` where documents are not to end in anything.
    """

    tokenizer: str
    end_of_document: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """The tokens of several texts in a row, and how many each has."""

    tokens: NDArray[np.integer]
    counts: NDArray[np.int64]


class Tokenizer(Protocol):
    """Makes tokens of texts."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What its tokens are stored as."""
        ...

    @property
    def end_of_document(self) -> int | None:
        """The token that ends a document, None for none."""
        ...

    @property
    def identity(self) -> str:
        """Another one means other tokens."""
        ...

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the tokens of texts."""
        ...


def tokenizer_of(choice: TokenizerChoice) -> Tokenizer:
    """Load a tokenizer.

    Raises:
        StorageError: there is no such file, or it is no tokenizer.
        UsageError: the end of a document is not said, or unknown to the tokenizer.
    """
    if choice.tokenizer == BYTES:
        if choice.end_of_document is not None:
            problem = f"the bytes end documents with {END_OF_BYTES}, no other token is possible"
            raise UsageError(problem=problem, instead="leave --end-of-document out")
        return ByteTokenizer()
    return FileTokenizer(choice)


class ByteTokenizer:
    """UTF-8 bytes, 0 to 255; 256 ends a document."""

    dtype = token_type(END_OF_BYTES + 1)
    end_of_document = END_OF_BYTES
    identity = BYTES

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the bytes of texts."""
        parts = [text.encode() for text in texts]
        tokens = np.frombuffer(b"".join(parts), np.uint8).astype(self.dtype)
        return Encoded(tokens=tokens, counts=np.array([len(part) for part in parts], np.int64))


class FileTokenizer:
    """A Hugging Face `tokenizer.json`, without the tokens that its post-processor would add."""

    def __init__(self, choice: TokenizerChoice) -> None:
        self._tokenizer, self.identity = _loaded(Path(choice.tokenizer))
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        # Ids may have holes: the largest decides, or it would wrap round in 16 bits.
        self.dtype = token_type(max(len(vocabulary), max(vocabulary.values(), default=0) + 1))
        self.end_of_document = _end_of(self._tokenizer, choice)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the tokens of texts."""
        # Without offsets into the text, which nobody asks for: the same ids in less time.
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        counts = np.array([len(encoding) for encoding in found], np.int64)
        ids = chain.from_iterable(encoding.ids for encoding in found)
        return Encoded(tokens=np.fromiter(ids, self.dtype, int(counts.sum())), counts=counts)


def _loaded(path: Path) -> tuple[Any, str]:
    try:
        from tokenizers import Tokenizer as HuggingFaceTokenizer
    except ImportError:
        raise UsageError(
            problem=f"{path}: a tokenizer file needs the package tokenizers",
            instead="pip install 'llmorch[data]', or --tokenizer bytes",
        ) from None
    path = path / _FILE if path.is_dir() else path
    try:
        text = path.read_bytes()
    except OSError as error:
        instead = f"a {_FILE}, its folder, or the word {BYTES}"
        problem = error.strerror or str(error)
        raise StorageError(path=str(path), problem=problem, instead=instead) from error
    try:
        loaded = HuggingFaceTokenizer.from_buffer(text)
    except Exception as error:  # the package raises nothing narrower
        problem = f"is not a Hugging Face {_FILE}: {error}"
        raise StorageError(path=str(path), problem=problem) from error
    loaded.no_truncation()  # the file may say so, and texts would be cut without a word
    loaded.no_padding()
    return loaded, sha256(text).hexdigest()


def _end_of(tokenizer: Any, choice: TokenizerChoice) -> int | None:  # noqa: ANN401
    special = [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special]
    known = " ".join(special[:_SHOWN_TOKENS]) or "none"
    if choice.end_of_document is None:
        raise UsageError(
            problem="which token ends a document is not said, and engines mask by it",
            instead=f"--end-of-document TOKEN (special tokens here: {known}), or {NO_END}",
        )
    if choice.end_of_document == NO_END:
        return None
    found = tokenizer.token_to_id(choice.end_of_document)
    if found is None:
        problem = f"the tokenizer has no token '{choice.end_of_document}'"
        raise UsageError(problem=problem, instead=nearest(choice.end_of_document, special))
    return int(found)
