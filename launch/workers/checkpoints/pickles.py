"""Reads pickles without running what is in them: names on a list become inert records.

A pickle is a program: `__reduce__` may name any function of any module. Here a name is looked up
in two lists and nowhere else; of `REAL` are containers that can do no harm, everything on `INERT`
becomes a record that keeps what it was called with. Whatever else is named ends the reading. So
neither torch nor an engine is imported, and no tensor is loaded: of a tensor its shape stays.
"""

import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, Self

from typing_extensions import override

_LIMIT_BYTES: Final = 1 << 30
"""Of a pickle: a model's metadata are megabytes."""

REAL: Final = {
    ("collections", "OrderedDict"): OrderedDict,
    ("argparse", "Namespace"): Namespace,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytearray"): bytearray,
    ("builtins", "slice"): slice,
    ("builtins", "complex"): complex,
}
_METADATA: Final = "torch.distributed.checkpoint.metadata"
_MODULES: Final = {
    "torch": (
        *("Size", "device", "dtype", "Tensor", "float32", "float16", "bfloat16", "float64"),
        *("int64", "int32", "int16", "int8", "uint8", "bool", "strided", "contiguous_format"),
        *("preserve_format", "float8_e4m3fn", "float8_e5m2", "FloatStorage", "HalfStorage"),
        *("BFloat16Storage", "DoubleStorage", "LongStorage", "IntStorage", "ShortStorage"),
        *("CharStorage", "ByteStorage", "BoolStorage", "Float8_e4m3fnStorage", "UntypedStorage"),
        "Generator",
    ),
    "torch.storage": ("UntypedStorage", "TypedStorage", "_load_from_bytes"),
    "torch.nn.parameter": ("Parameter",),
    "torch._utils": (
        *("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_tensor"),
        *("_rebuild_device_tensor_from_numpy", "_rebuild_parameter_with_state"),
    ),
    "torch._tensor": ("_rebuild_from_type_v2",),
    "torch.serialization": ("_get_layout",),
    "torch.nn.functional": ("gelu", "silu"),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    # Megatron keeps the plans of all ranks in the metadata, to save the next time without planning.
    "torch.distributed.checkpoint.planner": (
        *("SavePlan", "WriteItem", "WriteItemType", "TensorWriteData", "BytesIOWriteData"),
    ),
    _METADATA: (
        *("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata"),
        *("TensorProperties", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING"),
    ),
    "numpy": ("ndarray", "dtype"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.numeric": ("_frombuffer",),
    "numpy._core.numeric": ("_frombuffer",),
    "_codecs": ("encode",),
    "_io": ("BytesIO",),
    "io": ("BytesIO",),
    "builtins": ("getattr",),
    "pathlib": ("Path", "PosixPath"),
    "signal": ("Signals",),
    "megatron.core.enums": ("ModelType", "Fp8Recipe", "Fp4Recipe"),
    "megatron.core.transformer.enums": (
        *("AttnBackend", "AttnMaskType", "AttnType", "LayerType", "ModelType", "CudaGraphScope"),
    ),
    "megatron.core.rerun_state_machine": (
        *("RerunMode", "RerunState", "RerunDiagnostic", "QuickStats"),
    ),
    "megatron.core.transformer.pipeline_parallel_layer_layout": ("PipelineParallelLayerLayout",),
    "megatron.core.dist_checkpointing.mapping": ("ShardedTensor", "ShardedObject"),
    "megatron.training.activations": ("squared_relu", "quick_gelu"),
    "deepspeed.runtime.fp16.loss_scaler": ("LossScaler", "DynamicLossScaler"),
    "deepspeed.runtime.zero.config": ("ZeroStageEnum",),
    "deepspeed.utils.tensor_fragment": ("fragment_address", "tensor_fragment"),
    "deepspeed.runtime.utils": ("PartitionedTensor",),
}
INERT: Final = frozenset((module, name) for module, names in _MODULES.items() for name in names)
"""What may be named, and is never run."""

WIDTHS: Final = {
    **dict.fromkeys(("FloatStorage", "IntStorage", "float32", "int32"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "float64", "int64"), 8),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("float16", "bfloat16", "int16"), 2),
}
"""Bytes of an element, where not 1."""


class ForbiddenName(Exception):
    """A pickle names something that is on neither list."""

    def __init__(self, *, name: str) -> None:
        super().__init__(name)


class Inert:
    """What a name of the list became: it keeps what it was given and does nothing."""

    called: tuple[str, str] = ("", "")

    def __new__(cls, *given: object, **words: object) -> Self:  # noqa: D102
        made = object.__new__(cls)
        made.given = given
        made.state = dict(words)
        return made

    given: tuple[object, ...]
    state: Any

    def __init__(self, *given: object, **words: object) -> None:
        """Take what a class of that name would have taken."""

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Take an item, as what the record stands for may be a mapping."""

    def append(self, value: object) -> None:
        """Take an element, as what the record stands for may be a list."""

    def extend(self, values: object) -> None:
        """Take elements."""

    def field(self, name: str) -> Any:  # noqa: ANN401  whatever was pickled
        """Return a field of what was pickled, None where it has none of that name."""
        return self.state.get(name) if isinstance(self.state, dict) else None


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the bytes of tensors lie: an entry of the archive, and how long it must be."""

    entry: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """A tensor without its values."""

    shape: tuple[int, ...]
    storage: Storage

    @property
    def elements(self) -> int:
        """Elements of the tensor."""
        return product_of(self.shape)


class Reader(pickle.Unpickler):
    """Unpickles with the two lists; `storages` are those that tensors named."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    @override
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in REAL:
            return REAL[module, name]
        if (module, name) not in INERT:
            raise ForbiddenName(name=f"{module}.{name}")
        if module == "torch._utils" and name.startswith("_rebuild_tensor"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _same
        if module == "torch._tensor":
            return _of_type
        return inert_class(module, name)

    @override
    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_type, key, _, elements = pid
        if kind != "storage":
            raise ForbiddenName(name=f"a persistent {kind}")
        width = WIDTHS.get(storage_type.called[1], 1)
        storage = Storage(entry=f"data/{key}", size_bytes=int(elements) * width)
        self.storages[storage.entry] = storage
        return storage


@cache
def inert_class(module: str, name: str) -> type[Inert]:
    """Return the record's class of a name."""
    return type(name, (Inert,), {"called": (module, name)})


def _tensor(storage: Storage, _offset: int, size: object, *_: object) -> SavedTensor:
    return SavedTensor(shape=shape_of(size), storage=storage)


def _same(value: object, *_: object) -> object:
    return value


def _of_type(rebuild: Any, _type: object, given: tuple[Any, ...], *_: object) -> object:  # noqa: ANN401
    """Return what one of these functions here makes of a tensor that has a class of its own."""
    return rebuild(*given) if rebuild in (_tensor, _same) else None


def shape_of(size: object) -> tuple[int, ...]:
    """Return a shape that was pickled as torch's or as a tuple."""
    lengths = size.given[0] if isinstance(size, Inert) else size
    return tuple(int(length) for length in lengths) if isinstance(lengths, list | tuple) else ()


def product_of(shape: tuple[int, ...]) -> int:
    """Return the elements of a shape."""
    count = 1
    for length in shape:
        count *= length
    return count


def read_pickle(file: IO[bytes]) -> Any:  # noqa: ANN401  whatever was pickled
    """Return what a pickle holds, None where it is cut off or none.

    Raises:
        ForbiddenName: it names something that is not on the lists.
    """
    return _loaded(Reader(file))


def _loaded(reader: Reader) -> Any:  # noqa: ANN401  whatever was pickled
    try:
        return reader.load()
    except ForbiddenName:
        raise
    except Exception:  # noqa: BLE001  a broken pickle raises whatever it meets
        return None


@dataclass(frozen=True, slots=True)
class Archive:
    """What `torch.save` wrote: its tree without values, and what its file lacks."""

    tree: Any
    flaws: tuple[str, ...]


def read_archive(path: Path) -> Archive:
    """Return the tree of a file of `torch.save`; of one that cannot be read, flaws alone.

    Raises:
        ForbiddenName: it names something that is not on the lists.
    """
    name = path.name
    if not path.is_file():
        return Archive(None, (f"{name} is missing",))
    try:
        with zipfile.ZipFile(path) as archive:
            return _tree(archive, name)
    except zipfile.BadZipFile:
        return Archive(None, (f"{name} is cut off or is no file of torch.save",))


def _tree(archive: zipfile.ZipFile, name: str) -> Archive:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    pickled = [entry for entry in sizes if entry.endswith("/data.pkl")]
    if len(pickled) != 1 or sizes[pickled[0]] > _LIMIT_BYTES:
        return Archive(None, (f"{name} is no file of torch.save",))
    folder = pickled[0].removesuffix("data.pkl")
    with archive.open(pickled[0]) as file:
        reader = Reader(file)
        tree = _loaded(reader)
    if tree is None:
        return Archive(None, (f"{name} holds what cannot be read",))
    flaws = [
        f"{name}: a tensor of {storage.size_bytes:,} bytes has {sizes.get(folder + entry, 0):,}"
        for entry, storage in sorted(reader.storages.items())
        if sizes.get(folder + entry, 0) < storage.size_bytes
    ]
    return Archive(tree, tuple(flaws[:1]))


def tensors_of(tree: object) -> Iterator[SavedTensor]:
    """Yield the tensors of a tree of dicts and lists."""
    if isinstance(tree, SavedTensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from tensors_of(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from tensors_of(value)
