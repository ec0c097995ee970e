"""TFRecord and ArrayRecord files as records, without TensorFlow. The only importer of array_record.

A record is a `tf.train.Example`; one of bytes becomes text where it is UTF-8.
"""

import functools
import mmap
import struct
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from gemb.checks import UserError, needs
from gemb.data.sources import records
from gemb.data.sources.lines import unpacked

_FRAME = 16  # bytes around a record: its length, and two checksums


class TFRecord:
    """The records of one TFRecord file of Examples, `.gz` or not.

    Raises:
        UserError: for a file that is empty or broken off.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        plain = unpacked(self.path)
        if plain.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty")
        with open(plain, "rb") as file:
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        def make():
            return self._starts(), {"fingerprint": records.content_digest(plain)}

        starts, notes = records.kept("starts", f"{records.identity(plain)}-tfrecord", make)
        self._begin, self.fingerprint = starts, notes["fingerprint"]

    def __len__(self) -> int:
        return len(self._begin) - 1

    def __getitem__(self, row: int) -> dict:
        start, end = int(self._begin[row]), int(self._begin[row + 1])
        return parse_example(self._content[start + 12 : end - 4])

    def where(self, row: int) -> str:
        return f"{self.path}: record {row}"

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        return np.asarray(self._begin[rows + 1]) - np.asarray(self._begin[rows])

    def _starts(self) -> np.ndarray:
        starts = [0]
        while starts[-1] < len(self._content):
            if starts[-1] + 12 > len(self._content):
                break
            (size,) = struct.unpack_from("<Q", self._content, starts[-1])
            starts.append(starts[-1] + size + _FRAME)
        if starts[-1] != len(self._content):
            raise UserError(f"{self.path}: record {len(starts) - 1} is cut off; no TFRecord file?")
        return np.array(starts, np.int64)


class ArrayRecord:
    """The records of one ArrayRecord file of Examples.

    Raises:
        UserError: if array_record is not installed or the file is broken.
    """

    def __init__(self, path: Path):
        with needs("reading ArrayRecord", extra="data"):
            from array_record.python import array_record_module
        self.path = Path(path)
        try:
            self._reader = array_record_module.ArrayRecordReader(str(path))
            self._count = self._reader.num_records()
        except Exception as error:  # the library's own kinds
            raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
        self.fingerprint = records.content_digest(self.path)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> dict:
        return parse_example(self._reader.read([int(row)])[0])

    def where(self, row: int) -> str:
        return f"{self.path}: record {row}"

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        raise UserError(f"{self.path}: length_window needs the sizes of records; write JSON lines")


def parse_example(serialized: bytes) -> dict:
    """A serialized tf.train.Example as a dict; a feature of several values becomes a list.

    Raises:
        ValueError: for bytes that are no Example.
    """
    try:
        example = _example().FromString(serialized)
    except message.DecodeError:
        raise ValueError("not a tf.train.Example") from None
    row = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        values = [_text(value) if kind == "bytes_list" else value for value in values]
        row[name] = values[0] if len(values) == 1 else values
    return row


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


@functools.cache
def _example():
    """The message class of tf.train.Example, from the fields of its public definition."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="gemb/example.proto", package="gemb_example")
    file.syntax = "proto3"

    def add(name: str, *fields: tuple) -> descriptor_pb2.DescriptorProto:
        made = file.message_type.add(name=name)
        for number, (label, kind, type_name) in enumerate(fields, start=1):
            entry = made.field.add(name=label, number=number, type=kind)
            entry.label = field.LABEL_OPTIONAL
            if type_name:
                entry.type_name = f".gemb_example.{type_name}"
        return made

    kinds = (("Bytes", field.TYPE_BYTES), ("Float", field.TYPE_FLOAT), ("Int64", field.TYPE_INT64))
    for name, kind in kinds:
        add(f"{name}List", ("value", kind, None)).field[0].label = field.LABEL_REPEATED
    lists = [(f"{n.lower()}_list", field.TYPE_MESSAGE, f"{n}List") for n, _ in kinds]
    feature = add("Feature", *lists)
    feature.oneof_decl.add(name="kind")
    for entry in feature.field:
        entry.oneof_index = 0
    features = add("Features", ("feature", field.TYPE_MESSAGE, "Features.FeatureEntry"))
    features.field[0].label = field.LABEL_REPEATED
    pair = features.nested_type.add(name="FeatureEntry")
    pair.options.map_entry = True
    for number, (name, kind) in enumerate(
        (("key", field.TYPE_STRING), ("value", field.TYPE_MESSAGE)), start=1
    ):
        entry = pair.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
        if name == "value":
            entry.type_name = ".gemb_example.Feature"
    add("Example", ("features", field.TYPE_MESSAGE, "Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gemb_example.Example"))
