"""One foreign file, and what lies beside it, into a folder that transformers and gemb read."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from gemb.checks import UserError, require
from gemb.files import atomic_folder
from gemb.pretrained.convert.checkpoint import Written, write
from gemb.pretrained.modules import DTYPES, WEIGHTS

_READERS = {".onnx": "onnx", ".gguf": "gguf"}  # the library that reads it
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_TOKENIZER = "tokenizer.json"
_WITH_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_WITH_MODEL = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")


def convert(
    source: str | Path,
    output: str | Path,
    *,
    dtype: str = "float32",
    heads: int | None = None,
    tokenizer: str | Path | None = None,
    say: Callable = print,
) -> Path:
    """Converts a file into a new folder, whole or not at all.

    Args:
        source: a .onnx file (BERT, float or dynamically quantised) or a .gguf file (Llama).
        output: the folder to make; it may exist only if it is empty.
        dtype: of the weights that are written; one of DTYPES.
        heads: attention heads of an ONNX model that has no config.json beside it.
        tokenizer: tokenizer.json or its folder; default what lies beside the ONNX file, or what the
            GGUF file holds.
        say: called with lines about what is done.

    Returns:
        The folder: config.json, model.safetensors, tokenizer files, and sentence-transformers'
        modules where they lay beside the ONNX file.

    Raises:
        UserError: for a file that cannot be converted, or an output that is not empty.
    """
    output = Path(output).expanduser()
    check_readable(source)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} exists and is not an empty folder: name another, or remove it")
    with atomic_folder(output) as folder:
        written = convert_into(source, folder, dtype=dtype, heads=heads, tokenizer=tokenizer)
    say(
        f"{output}: {written.tensors} tensors, {written.parameters:,} parameters in {dtype}, "
        f"{written.bytes:,} bytes"
    )
    return output


def check_readable(source: str | Path) -> Path:
    """Checks what can be told before a file is opened.

    Returns:
        The path of `source`.

    Raises:
        UserError: for a missing file, a pickle, a format that is not read, or a missing extra.
    """
    source = Path(source).expanduser()
    kind = source.suffix.lower()
    if kind in _PICKLES:
        raise UserError(
            f"{source}: gemb opens no pickle ({', '.join(_PICKLES)}), because opening one can run "
            "any code that somebody put into it: take the model's safetensors"
        )
    if kind not in _READERS:
        hint = " (gemb reads a folder with safetensors as it is)" if kind == ".safetensors" else ""
        raise UserError(f"{source}: expected a .onnx or .gguf file{hint}")
    check_extra(source)
    if not source.is_file():
        raise UserError(f"{source}: no such file")
    return source


def check_extra(name: str | Path) -> None:
    """Checks that the library for a file of this name is installed.

    Raises:
        MissingExtra: naming the extra to install.
    """
    library = _READERS[Path(name).suffix.lower()]
    require(library, f"converting {Path(name).name}", extra="convert")


def convert_into(
    source: str | Path,
    folder: Path,
    *,
    dtype: str = "float32",
    heads: int | None = None,
    tokenizer: str | Path | None = None,
) -> Written:
    """Like `convert`, into an existing folder that the caller keeps whole.

    Raises:
        UserError: for a file that cannot be converted.
    """
    source = check_readable(source)
    if dtype not in DTYPES:
        raise UserError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    tokenizer = _given_tokenizer(tokenizer)
    if source.suffix.lower() == ".onnx":
        from gemb.pretrained.convert import onnx_bert

        beside = _beside(source)
        tokenizer = tokenizer or beside / _TOKENIZER
        if not tokenizer.is_file():
            raise UserError(
                f"{beside} holds no {_TOKENIZER}: put the model's own there, or give --tokenizer"
            )
        config = _read_config(beside / "config.json")
        checkpoint = onnx_bert.read(source, config=config, heads=heads)
        _copy_modules(beside, folder)
    else:
        from gemb.pretrained.convert import gguf_llama

        checkpoint = gguf_llama.read(source, own_tokenizer=tokenizer is None)
    if tokenizer is not None:
        _copy_tokenizer(tokenizer, folder, checkpoint.config["vocab_size"])
    return write(checkpoint, folder, dtype, source)


def _beside(source: Path) -> Path:
    """Where the model's other files lie; on the hub they lie above a folder named onnx."""
    here, above = source.parent, source.absolute().parent.parent
    inside = source.absolute().parent.name == "onnx" and not (here / _TOKENIZER).exists()
    return above if inside and (above / _TOKENIZER).exists() else here


def _given_tokenizer(tokenizer: str | Path | None) -> Path | None:
    if tokenizer is None:
        return None
    path = Path(tokenizer).expanduser()
    path = path / _TOKENIZER if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"--tokenizer: no such file: {path}")
    return path


def _read_config(file: Path) -> dict | None:
    if not file.exists():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error})") from None
    if not isinstance(config, dict):
        raise UserError(f"{file}: expected a JSON object")
    return {name: value for name, value in config.items() if name not in ("_name_or_path", "dtype")}


def _copy_tokenizer(tokenizer: Path, folder: Path, vocab_size: int) -> None:
    from tokenizers import Tokenizer

    try:
        ids = Tokenizer.from_file(str(tokenizer)).get_vocab().values()
    except Exception as error:  # the Rust library raises Exception itself
        raise UserError(f"{tokenizer}: not a tokenizer ({error})") from None
    if max(ids, default=0) >= vocab_size:
        raise UserError(
            f"{tokenizer} gives ids up to {max(ids)}, but the weights have only {vocab_size} rows: "
            "the tokenizer belongs to another model"
        )
    shutil.copyfile(tokenizer, folder / _TOKENIZER)
    for name in _WITH_TOKENIZER:
        if (tokenizer.parent / name).is_file():
            shutil.copyfile(tokenizer.parent / name, folder / name)


def _copy_modules(beside: Path, folder: Path) -> None:
    """Copies sentence-transformers' files: modules.json, and folders such as 1_Pooling."""
    for name in _WITH_MODEL:
        if (beside / name).is_file():
            shutil.copyfile(beside / name, folder / name)
    if not (beside / "modules.json").is_file():
        return
    for module in sorted(beside.iterdir()):
        if not module.is_dir() or not re.fullmatch(r"\d+_\w+", module.name):
            continue
        files = {file.name: file for file in module.iterdir() if file.is_file()}
        if "pytorch_model.bin" in files and WEIGHTS not in files:
            raise UserError(f"{module}/pytorch_model.bin is a pickle, which gemb does not open")
        (folder / module.name).mkdir()
        for name in ("config.json", WEIGHTS):
            if name in files:
                shutil.copyfile(files[name], folder / module.name / name)
