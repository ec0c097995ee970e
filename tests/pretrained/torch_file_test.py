"""Files of torch.save: whole ones by torch itself (peers), hostile ones by hand."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.pretrained.convert.torch_file import read_state_dict, read_torch_file


class Named:
    """A value that pickles as a call of a name, as torch's tensors do."""

    def __init__(self, module, name, *arguments):
        self.module, self.name, self.arguments = module, name, arguments


class Storage:
    def __init__(self, kind, key, elements):
        self.kind, self.key, self.elements = kind, key, elements


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def opcodes(value) -> bytes:
    """A value as the operations of a pickle, without memo."""
    if isinstance(value, Named):
        called = f"c{value.module}\n{value.name}\n".encode()
        return called + opcodes(value.arguments) + b"R"
    if isinstance(value, Storage):
        parts = text("storage") + f"ctorch\n{value.kind}\n".encode() + text(value.key)
        return b"(" + parts + text("cpu") + opcodes(value.elements) + b"tQ"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(opcodes, value)) + b"t"
    if isinstance(value, dict):
        pairs = b"".join(opcodes(k) + opcodes(v) for k, v in value.items())
        return b"}(" + pairs + b"u"
    if isinstance(value, str):
        return text(value)
    return b"J" + struct.pack("<i", value)


def pickled(value) -> bytes:
    return b"\x80\x02" + opcodes(value) + b"."


def tensor(storage, offset=0, size=(2, 3), stride=(3, 1)):
    return Named("torch._utils", "_rebuild_tensor_v2", storage, offset, size, stride, 0, ())


def archive(path, content, storages=None, *, compression=zipfile.ZIP_STORED, more=None):
    data = content if isinstance(content, bytes) else pickled(content)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("m/data.pkl", data)
        for name, part in ({"data/0": FLOATS} if storages is None else storages).items():
            file.writestr(f"m/{name}", part)
        for name, part in (more or {}).items():
            file.writestr(name, part)
    return path


FLOATS = np.arange(6, dtype="<f4").tobytes()
WHOLE = {"w": tensor(Storage("FloatStorage", "0", 6))}


def test_a_tensor_by_hand(tmp_path):
    found = read_state_dict(archive(tmp_path / "m.pth", WHOLE))
    np.testing.assert_array_equal(found["w"], np.arange(6.0).reshape(2, 3))
    turned = {"w": tensor(Storage("FloatStorage", "0", 6), 0, (3, 2), (1, 3))}
    found = read_state_dict(archive(tmp_path / "t.pth", turned))
    np.testing.assert_array_equal(found["w"], np.arange(6.0).reshape(2, 3).T)
    both = {"state_dict": WHOLE, "epoch": 3}
    assert list(read_state_dict(archive(tmp_path / "s.pth", both))) == ["w"]


class Runs:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


HOSTILE = {
    "os.system": pickle.dumps({"w": Runs(os.system, "touch pwned")}, 2),
    "builtins.eval": pickle.dumps(Runs(eval, "open('pwned', 'w')"), 2),
    "builtins.getattr": pickle.dumps(Runs(getattr, "abc", "upper"), 2),
    "numpy": pickle.dumps({"w": np.zeros(2)}, 2),
    "a module": pickled({"m": Named("torch.nn.modules.linear", "Linear", 3)}),
    "an object's state": pickled(Named("collections", "OrderedDict"))[:-1] + b"}b.",
    "an old instance": b"(ios\nsystem\nX\x01\x00\x00\x00a.",
    "copyreg's extension": b"\x80\x02\x82\x01.",
    "a set": pickle.dumps({"w": {1, 2}}, 4),
    "bytes": pickle.dumps({"w": b"x"}, 4),
    "a bare storage": pickled({"w": Storage("FloatStorage", "0", 6)}),
    "a type": b"\x80\x02ctorch\nFloatStorage\n.",
    "a class": b"\x80\x02ccollections\nOrderedDict\n.",
    "an unknown storage": pickled({"w": tensor(Storage("ComplexFloatStorage", "0", 6))}),
    "a missing storage": pickled({"w": tensor(Storage("FloatStorage", "9", 6))}),
    "a storage outside": pickled({"w": tensor(Storage("FloatStorage", "../../x", 6))}),
    "a short storage": pickled({"w": tensor(Storage("FloatStorage", "0", 7), 0, (7,), (1,))}),
    "a long storage": pickled({"w": tensor(Storage("FloatStorage", "0", 5), 0, (5,), (1,))}),
    "a negative storage": pickled({"w": tensor(Storage("FloatStorage", "0", -1))}),
    "beyond its storage": pickled({"w": tensor(Storage("FloatStorage", "0", 6), 1)}),
    "a negative offset": pickled({"w": tensor(Storage("FloatStorage", "0", 6), -1)}),
    "a negative stride": pickled(
        {"w": tensor(Storage("FloatStorage", "0", 6), 5, (6,), (-1,))}
    ),
    "an expanded tensor": pickled(
        {"w": tensor(Storage("FloatStorage", "0", 6), 0, (1 << 30, 1 << 20), (0, 0))}
    ),
    "sizes that are no numbers": pickled(
        {"w": tensor(Storage("FloatStorage", "0", 6), 0, ("a",), (1,))}
    ),
    "two storages of one key": pickled(
        {"a": tensor(Storage("FloatStorage", "0", 6)),
         "b": tensor(Storage("IntStorage", "0", 6))}
    ),
    "a tensor of nothing": pickled({"w": tensor("0")}),
    "a huge memo": b"\x80\x02}r" + struct.pack("<I", 0x7FFFFFFF) + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a deep list": b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    "no end": b"\x80\x02}",
    "nothing": b"",
    "text": b"hello world",
    "a huge text": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "a stack that is empty": b"\x80\x02a.",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "an object's state":  # harmless: OrderedDict of torch carries _metadata
        assert read_torch_file(archive(tmp_path / "m.pth", HOSTILE[name])) == {}
        return
    for made in (archive(tmp_path / "m.pth", HOSTILE[name]), _sequence(tmp_path, HOSTILE[name])):
        with pytest.raises(UserError) as error:
            read_torch_file(made)
        assert "\n" not in str(error.value)
        assert str(made) in str(error.value)
    assert not (tmp_path / "pwned").exists()


def _sequence(folder, content, keys=("0",), elements=6, data=FLOATS, end=b""):
    """A file in the layout of torch before 1.6."""
    place = folder / "old.pth"
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    start = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, system))
    place.write_bytes(
        start + content + pickle.dumps(list(keys), 2) + struct.pack("<q", elements) + data + end
    )
    return place


def _old():
    # the older layout names a sixth part, the view, which is None
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += b"J" + struct.pack("<i", 6) + b"NtQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + opcodes(0)
    call += opcodes((2, 3)) + opcodes((3, 1)) + opcodes(0) + b")" + b"tR"
    return b"\x80\x02}" + text("w") + call + b"s."


def test_the_older_layout(tmp_path):
    found = read_state_dict(_sequence(tmp_path, _old()))
    np.testing.assert_array_equal(found["w"], np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "broken",
    [
        {"elements": 5}, {"elements": -1}, {"elements": 1 << 60}, {"data": FLOATS[:-1]},
        {"end": b"x"}, {"keys": ("1",)}, {"keys": ()}, {"keys": ("0", "1")},
    ],
)  # fmt: skip
def test_an_older_file_that_does_not_fit(broken, tmp_path):
    with pytest.raises(UserError, match=r"old\.pth: "):
        read_torch_file(_sequence(tmp_path, _old(), **broken))


def test_every_cut_of_a_file_is_one_line(tmp_path):
    for whole in (archive(tmp_path / "m.pth", WHOLE), _sequence(tmp_path, _old())):
        data = whole.read_bytes()
        for end in range(0, len(data), 7):
            whole.write_bytes(data[:end])
            with pytest.raises(UserError) as error:
                read_torch_file(whole)
            assert "\n" not in str(error.value)


def test_changed_bytes_never_give_other_values(tmp_path):
    """A zip holds sums of its parts: a changed byte of them is found."""
    whole = archive(tmp_path / "m.pth", WHOLE)
    data, random = bytearray(whole.read_bytes()), np.random.default_rng(0)
    for place in random.integers(0, len(data), 200):
        changed = bytearray(data)
        changed[place] ^= 0xFF
        whole.write_bytes(changed)
        try:
            found = read_torch_file(whole)
        except UserError:
            continue
        np.testing.assert_array_equal(found["w"], np.arange(6.0).reshape(2, 3))


def test_archives_that_are_odd(tmp_path):
    path = tmp_path / "m.pth"
    odd = {
        "the compressed part": {"compression": zipfile.ZIP_DEFLATED},
        "no archive of torch.save": {"more": {"n/data.pkl": b"x"}},
        "the byte order": {"more": {"m/byteorder": b"big"}},
    }
    for message, settings in odd.items():
        with pytest.raises(UserError, match=message):
            read_torch_file(archive(path, WHOLE, **settings))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("readme", b"x")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=r"no archive of torch\.save"):
        read_torch_file(path)
    with pytest.raises(UserError, match=r"gone\.pth: cannot be read \(No such file"):
        read_torch_file(tmp_path / "gone.pth")
    with pytest.raises(UserError, match="no state dict"):
        read_state_dict(archive(path, {"epoch": 1}))


@pytest.mark.peers
def test_what_torch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    made = {
        str(dtype): torch.arange(12).reshape(3, 4).to(dtype)
        for dtype in (
            torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64,
            torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
        )
    }  # fmt: skip
    made["turned"], made["part"] = made["torch.float32"].T, made["torch.float32"][1:, ::2]
    made["scalar"], made["none"] = torch.tensor(3.5), torch.zeros(0, 4)
    made["parameter"] = torch.nn.Parameter(torch.ones(2))
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).state_dict()
    for zipped in (True, False):
        for content in (made, module):
            torch.save(content, tmp_path / "m.pth", _use_new_zipfile_serialization=zipped)
            found = read_state_dict(tmp_path / "m.pth")
            assert list(found) == list(content)
            for name, value in content.items():
                expected = value.detach().to(torch.float64).numpy()
                np.testing.assert_array_equal(found[name].astype("f8"), expected, err_msg=name)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pth")
    with pytest.raises(UserError, match=r"the pickle operation NEWOBJ"):
        read_torch_file(tmp_path / "m.pth")
