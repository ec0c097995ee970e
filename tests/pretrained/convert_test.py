"""`gemb convert` as a user meets it: folders, mistakes, broken files."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from foreign_models import OnnxExport, bert_weights, llama_weights, save_gguf
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models

from gemb.checks import UserError
from gemb.pretrained.convert import convert

pytest.importorskip("onnx")
pytest.importorskip("gguf")
ROOT = Path(__file__).parents[2]
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def quiet(*arguments, **options):
    return convert(*arguments, say=lambda line: None, **options)


def tokenizer_file(path, size=11):
    words = {f"w{number}": number for number in range(size)}
    Tokenizer(models.WordLevel(words, "w0")).save(str(path))
    return path


@pytest.fixture
def published(tmp_path):
    """A folder such as a hub's: model.onnx with config, tokenizer and modules beside it."""
    folder = tmp_path / "published"
    (folder / "1_Pooling").mkdir(parents=True)
    OnnxExport().bert(bert_weights()).save(folder / "model.onnx")
    tokenizer_file(folder / "tokenizer.json")
    contents = {
        "modules.json": MODULES,
        "1_Pooling/config.json": {"word_embedding_dimension": 8, "pooling_mode": "cls"},
        "sentence_bert_config.json": {"max_seq_length": 5},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "w0",
        },
        "unrelated.json": {},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_all_that_lies_beside_an_onnx_file_comes_along(published, tmp_path):
    said = []
    output = convert(published / "model.onnx", tmp_path / "deep" / "out", heads=2, say=said.append)
    found = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    beside = {str(path.relative_to(published)) for path in published.rglob("*") if path.is_file()}
    assert found == beside - {"model.onnx", "unrelated.json"} | {"model.safetensors", "config.json"}
    for name in found - {"model.safetensors", "config.json"}:
        assert (output / name).read_bytes() == (published / name).read_bytes()
    weights = bert_weights()
    parameters = sum(value.size for value in weights.values())
    assert f"{len(weights)} tensors, {parameters:,} parameters in float32" in said[0]


def test_config_beside_is_kept_and_checked(published, tmp_path):
    quiet(published / "model.onnx", tmp_path / "first", heads=2)
    config = json.loads((tmp_path / "first" / "config.json").read_text()) | {"name": "mine"}
    (published / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/me"}))
    output = quiet(published / "model.onnx", tmp_path / "out", dtype="float16")
    assert json.loads((output / "config.json").read_text()) == config | {"torch_dtype": "float16"}
    (published / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        quiet(published / "model.onnx", tmp_path / "third")


def test_files_above_a_folder_named_onnx_count_as_beside(published, tmp_path):
    (published / "onnx").mkdir()
    (published / "model.onnx").rename(published / "onnx" / "model.onnx")
    output = quiet(published / "onnx" / "model.onnx", tmp_path / "out", heads=2)
    assert (output / "1_Pooling" / "config.json").is_file()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["onnx", "gguf"])
def test_weights_are_rounded_to_the_dtype(published, tmp_path, kind, dtype):
    if kind == "onnx":
        weights, source, options = bert_weights(), published / "model.onnx", {"heads": 2}
    else:
        weights = llama_weights(11)
        source = save_gguf(tmp_path / "m.gguf", weights)
        options = {"tokenizer": published}
    output = quiet(source, tmp_path / "out", dtype=dtype, **options)
    tensors = load_file(output / "model.safetensors")
    expected = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    assert set(tensors) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(tensors[name], value.astype(expected))
    assert (output / "tokenizer.json").read_bytes() == (published / "tokenizer.json").read_bytes()


@pytest.mark.peers
def test_sentence_transformers_reads_the_folder(published, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    output = quiet(published / "model.onnx", tmp_path / "out", heads=2)
    model = peer.SentenceTransformer(str(output), device="cpu")
    assert model.max_seq_length == 5
    vectors = model.encode(["w1", "w2"])
    assert vectors.shape == (2, 8)
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "ckpt", "pkl"])
def test_pickles_are_refused_unopened(tmp_path, suffix):
    path = tmp_path / f"pytorch_model.{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UserError, match=r"opens no pickle .* can run any code"):
        quiet(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.onnx", "no such file"),
        ("model.safetensors", "gemb reads a folder with safetensors as it is"),
        ("model.h5", "expected a .onnx or .gguf file"),
        ("folder", "expected a .onnx or .gguf file"),
    ],
)
def test_other_files_are_refused(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        quiet(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("kind", ["onnx", "gguf"])
def test_cut_and_foreign_files_are_one_line(published, tmp_path, kind):
    source = published / "model.onnx"
    if kind == "gguf":
        source = save_gguf(tmp_path / "m.gguf", llama_weights(11))
    options = {"heads": 2, "tokenizer": published}
    quiet(source, tmp_path / "whole", **options)
    data, random = source.read_bytes(), np.random.default_rng(0)
    cuts = [data[: int(len(data) * part)] for part in np.linspace(0, 0.95, 40)]
    foreign = [b"\x89PNG\r\n\x1a\n" + bytes(100), b"GGUF", b"{}", random.bytes(5000)]
    broken = tmp_path / "broken" / f"model.{kind}"
    broken.parent.mkdir()
    for content in cuts + foreign:
        broken.write_bytes(content)
        with pytest.raises(UserError) as error:
            quiet(broken, tmp_path / "out", **options)
        assert str(broken) in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*")), "something half-written was left"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no tokenizer", "holds no tokenizer.json: .* or give --tokenizer"),
        ("large tokenizer", "gives ids up to 11, but the weights have only 11 rows"),
        ("broken tokenizer", "not a tokenizer"),
        ("pickled module", "2_Dense/pytorch_model.bin is a pickle"),
    ],
)
def test_what_lies_beside_must_fit(published, tmp_path, change, message):
    tokenizer = published / "tokenizer.json"
    if change == "no tokenizer":
        tokenizer.unlink()
    elif change == "large tokenizer":
        tokenizer_file(tokenizer, size=12)
    elif change == "broken tokenizer":
        tokenizer.write_text('{"model": 1}')
    else:
        (published / "2_Dense").mkdir()
        (published / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        quiet(published / "model.onnx", tmp_path / "out", heads=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, "float32", "tensor encoder.layer.0.output.dense.bias holds NaN or infinity"),
        (1e6, "float16", "dense.bias is too large for float16; take bfloat16"),
    ],
)
def test_weights_that_are_no_numbers(published, tmp_path, value, dtype, message):
    weights = bert_weights()
    weights["encoder.layer.0.output.dense.bias"][3] = value
    OnnxExport().bert(weights).save(published / "model.onnx")
    with pytest.raises(UserError, match=message):
        quiet(published / "model.onnx", tmp_path / "out", heads=2, dtype=dtype)


def test_output_that_holds_something_is_left_alone(published, tmp_path):
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        quiet(published / "model.onnx", published, heads=2)
    (tmp_path / "out").mkdir()
    assert quiet(published / "model.onnx", tmp_path / "out", heads=2).is_dir()


@pytest.mark.parametrize("name", ["onnx", "gguf"])
def test_missing_extra_names_what_to_install(tmp_path, monkeypatch, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda library: None if library == name else find(library)
    )
    with pytest.raises(UserError, match=rf"needs {name}: pip install 'gemb\[convert\]'"):
        quiet(tmp_path / f"model.{name}", tmp_path / "out")


def gemb(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "gemb.cli", "convert", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.long
def test_the_verb(published, tmp_path):
    result = gemb("--heads=2", "--dtype=bfloat16", published / "model.onnx", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "parameters in bfloat16" in result.stdout
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"gemb convert --dtype=bfloat16 --heads=2 {published / 'model.onnx'}" in card
    result = gemb(published / "model.onnx")
    assert result.returncode == 2
    assert "expected SOURCE and OUTPUT" in result.stderr
    result = gemb("--dtype=int8", published / "model.onnx", tmp_path / "again")
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
