"""Reads the files that `torch.save` writes, without torch: tensors in plain containers, no more.

Such a file is a pickle, which in Python's own reader can run any code. Here a pickle may use only
the operations that build dicts, lists, texts and numbers, and only the names that torch gives to
tensors and their storages; those become values of this file, nothing is imported. Both layouts are
read: the zip archive of torch 1.6 and later, and the older sequence of pickles.

Reference: torch/serialization.py, `_save` and `_legacy_save`.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gemb.checks import UserError

_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
# What builds dicts, lists, tuples, texts and numbers, refers to what was built, names a class of
# find_class, and calls what that returned.
_OPERATIONS = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
        *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("APPEND", "APPENDS", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL"),
        *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
        *("BINPERSID", "REDUCE", "BUILD"),
    )
)
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MOST_OPERATIONS = 5_000_000
_DEEPEST = 64
_BROKEN = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, RecursionError, MemoryError, zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip


class _Refused(Exception):
    """What a file holds that is not admitted."""


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str
    elements: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch_file(path: str | Path) -> Any:
    """The content of a file that `torch.save` wrote.

    Args:
        path: a file such as model.pth or pytorch_model.bin.

    Returns:
        Dicts, lists, tuples, texts and numbers, with numpy arrays in place of tensors.

    Raises:
        UserError: in one line, for a file that is missing, broken or cut, for storages that do not
            fit their tensors, and for anything but tensors in plain containers.
    """
    path = Path(path).expanduser()
    try:
        data = path.read_bytes()
        tree, storages = _from_zip(data) if data[:2] == b"PK" else _from_sequence(data)
        return _converted(tree, storages)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _Refused as error:
        raise UserError(f"{path}: {error}; only tensors in plain containers are read") from None
    except _BROKEN as error:
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: not a whole file of torch.save ({why})") from None


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The named tensors of a file that `torch.save` wrote.

    Args:
        path: the file; it holds a state dict, or one under the name "state_dict".

    Raises:
        UserError: as `read_torch_file`, and for a file with anything else in it.
    """
    tree = read_torch_file(path)
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    named = isinstance(tree, dict) and all(
        isinstance(name, str) and isinstance(value, np.ndarray) for name, value in tree.items()
    )
    if not named or not tree:
        raise UserError(f"{path}: holds no state dict of named tensors")
    return dict(tree)


def _from_zip(data: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {}
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise _Refused(f"the compressed part {info.filename!r:.60}")
            if info.filename in members:
                raise _Refused(f"the part {info.filename!r:.60}, twice")
            members[info.filename] = info
        roots = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(roots) != 1:
            raise _Refused("no archive of torch.save")
        root = roots[0].removesuffix("data.pkl")
        order = archive.read(members[f"{root}byteorder"]) if f"{root}byteorder" in members else b""
        if order not in (b"", b"little"):
            raise _Refused(f"the byte order {order!r:.20}")
        # zipfile checks the sum of each part that it reads
        tree, used = _unpickled(archive.read(members[roots[0]]))
        parts = {}
        for storage in used.values():
            name = f"{root}data/{storage.key}"
            if name not in members:
                raise _Refused(f"no storage {storage.key!r:.40}")
            parts[storage.key] = archive.read(members[name])

    def storages(storage: _Storage) -> np.ndarray:
        return _array(parts[storage.key], 0, storage, exact=True)

    return tree, storages


def _from_sequence(data: bytes) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    pieces, place = [], 0
    for _ in range(3):
        end = _scanned(data, place)
        pieces.append(_unpickled(data[place:end])[0])
        place = end
    magic, protocol, system = pieces
    if magic != _LEGACY_MAGIC or protocol != _LEGACY_PROTOCOL:
        raise _Refused("a pickle that torch.save did not write")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _Refused("another byte order")
    end = _scanned(data, place)
    tree, used = _unpickled(data[place:end])
    place, end = end, _scanned(data, end)
    keys = _unpickled(data[place:end])[0]
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(used):
        raise _Refused("a list of storages that is not that of its tensors")
    starts, place = {}, end
    for key in keys:
        storage = used[key]
        count = int.from_bytes(data[place : place + 8], "little")
        if count != storage.elements:
            raise _Refused(f"a storage of {count} elements in place of {storage.elements}")
        starts[key] = place + 8
        place += 8 + storage.elements * storage.dtype.itemsize
    if place != len(data):
        raise _Refused(f"{len(data):,} bytes where its storages end at {place:,}")
    return tree, lambda storage: _array(data, starts[storage.key], storage)


def _array(data: bytes, start: int, storage: _Storage, exact: bool = False) -> np.ndarray:
    size = storage.elements * storage.dtype.itemsize
    if start + size > len(data) or (exact and size != len(data)):
        raise _Refused(
            f"a storage of {len(data) - start:,} bytes for {storage.elements:,} elements"
        )
    return np.frombuffer(data, storage.dtype, storage.elements, start)


def _scanned(data: bytes, start: int = 0) -> int:
    """Where the pickle ends that starts at `start`, after a look at all of its operations."""
    stream = io.BytesIO(data)
    stream.seek(start)
    for number, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if operation.name not in _OPERATIONS:
            raise _Refused(f"the pickle operation {operation.name}")
        # Python's reader makes a table as long as the highest number
        if operation.name == "LONG_BINPUT" and argument > number:
            raise _Refused(f"a memo of {argument:,} entries")
        if number > _MOST_OPERATIONS:
            raise _Refused("more operations than any state dict has")
    return stream.tell()


def _unpickled(data: bytes) -> tuple[Any, dict[str, _Storage]]:
    """(the tree of one pickle, with `_Tensor` for tensors; its storages by key)."""
    _scanned(data)
    reader = _Unpickler(io.BytesIO(data))
    return reader.load(), reader.storages


class _Unpickler(pickle.Unpickler):
    """Python's reader, with values of this file for the few names that it may name."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch._utils" and name in _REBUILD:
            return _REBUILD[name]
        raise _Refused(f"the name {module}.{name}"[:100])

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, elements, *view = pid
        right = kind == "storage" and isinstance(dtype, np.dtype) and isinstance(key, str)
        if not right or type(elements) is not int or elements < 0 or len(view) > 1 or any(view):
            raise _Refused(f"the storage {pid!r:.60}")
        made = _Storage(dtype, key, elements)
        if self.storages.setdefault(key, made) != made:
            raise _Refused(f"two storages {key!r:.40}")
        return made


def _rebuild_tensor(storage, offset, size, stride, *_) -> _Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride):
        raise _Refused("a tensor without a storage")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise _Refused(f"a tensor of size {tuple(size)!r:.60}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    # no more elements than there are: an expanded tensor could fill any memory
    if count and (last >= storage.elements or count > storage.elements):
        raise _Refused(f"a tensor of size {tuple(size)} in {storage.elements:,} elements")
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(tensor, *_) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise _Refused("a parameter without a tensor")
    return tensor


_REBUILD = {
    "_rebuild_tensor": _rebuild_tensor,
    "_rebuild_tensor_v2": _rebuild_tensor,
    "_rebuild_parameter": _rebuild_parameter,
}


def _converted(tree: Any, storages: Callable[[_Storage], np.ndarray]) -> Any:
    """The tree with arrays for its tensors; what is reached twice is converted once."""
    done: dict[int, Any] = {}
    running: set[int] = set()

    def convert(node: Any, depth: int) -> Any:
        if node is None or type(node) in (str, int, float, bool):
            return node
        if id(node) in done:
            return done[id(node)]
        if id(node) in running or depth > _DEEPEST:
            raise _Refused("containers inside themselves, or very deep")
        running.add(id(node))
        if isinstance(node, _Tensor):
            made = _strided(node, storages(node.storage))
        elif isinstance(node, _Storage):
            raise _Refused("a storage without a tensor")
        elif isinstance(node, dict):
            made = {_key(key): convert(value, depth + 1) for key, value in node.items()}
        elif type(node) in (list, tuple):
            made = type(node)([convert(value, depth + 1) for value in node])
        else:
            raise _Refused(f"a value of type {type(node).__name__}")
        running.remove(id(node))
        done[id(node)] = made
        return made

    return convert(tree, 0)


def _key(key: Any) -> Any:
    if type(key) not in (str, int):
        raise _Refused(f"a key of type {type(key).__name__}")
    return key


def _strided(tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    if not math.prod(tensor.size):
        return np.empty(tensor.size, storage.dtype)
    strides = [step * storage.dtype.itemsize for step in tensor.stride]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.size, strides)
    return np.array(view)  # a copy, which owns its memory and is contiguous
