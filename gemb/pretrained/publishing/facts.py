"""What a model card says, read from a saved folder; what is not known is left empty."""

import dataclasses
import re
from pathlib import Path

from gemb.files import read_object
from gemb.pretrained.fetch import known_model
from gemb.pretrained.folder import MANIFEST
from gemb.pretrained.modules import POOLING_FLAGS
from gemb.structs import SIDES

CARD = "README.md"
_CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/")


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts of a saved folder.

    Attributes:
        fingerprint: of the model; "" for a folder that gemb did not save.
        dim, max_length: numbers of a vector and tokens of a text; 0 where gemb.json does not say.
        widths: nested widths, widest first; () for a model that has none.
        prompts: side -> the prompt in front of its texts, "" for none.
        loads_elsewhere: whether sentence-transformers computes the same vectors.
        training: the summary in gemb.json.
        base_models: ids on the hub of the published models that it was made from.
        license, language: those of the base models, where they all say the same.
    """

    fingerprint: str
    dim: int
    max_length: int
    widths: tuple[int, ...]
    prompts: dict[str, str]
    loads_elsewhere: bool
    training: dict
    base_models: tuple[str, ...]
    license: str
    language: str | list[str]


def read_facts(folder: Path, base: Path | None = None) -> Facts:
    """Reads the facts of a folder.

    Args:
        folder: as `gemb.pretrained.saving` or `gemb.pretrained.convert` writes it.
        base: what the model was loaded from, where gemb.json does not name what it started from.
    """
    manifest = read_object(folder / MANIFEST)
    tower = read_object(folder / "document" / MANIFEST) or manifest
    training = manifest.get("training") or {}
    settings = read_object(folder / "config_sentence_transformers.json")
    prompts = settings.get("prompts") or {}
    sources = sources_of(training) or ([_whole(base)] if base else [])
    stated = [_stated(place) for place in sources]
    dim, widths = tower.get("dim", 0), tuple(tower.get("widths") or ())
    return Facts(
        fingerprint=manifest.get("fingerprint", ""),
        dim=dim,
        max_length=tower.get("max_length", 0),
        widths=widths if len(widths) > 1 else (),
        prompts={side: prompts.get(side) or "" for side in SIDES},
        loads_elsewhere=_loads_elsewhere(folder),
        training=training,
        base_models=tuple(dict.fromkeys(name for place in sources for name in hub_ids(place))),
        license=_agreed(stated, "license") or "",
        language=_agreed(stated, "language") or "",
    )


def sources_of(training: dict) -> list[Path]:
    """The folders that a model was made from, by the summary in its gemb.json."""
    started = training.get("started_from")
    return [Path(place) for place in training.get("soup_of") or ([started] if started else [])]


def hub_ids(place: Path, depth: int = 8) -> list[str]:
    """The published models that a folder is, or was made from over several trainings.

    Example:
        >>> hub_ids(Path("/hub/models--intfloat--e5-small-v2/snapshots/ffb93f3"))
        ['intfloat/e5-small-v2']
    """
    cached = _CACHED.search(f"{place.as_posix()}/")
    if cached:
        return [f"{cached[1]}/{cached[2]}"]
    if known := known_model(place):
        return [known["hub"].partition("@")[0]] if "hub" in known else []
    manifest = read_object(place / MANIFEST)
    above = sources_of(manifest.get("training") or {}) if depth else []
    if above or not manifest:
        return [name for source in above for name in hub_ids(source, depth - 1)]
    named = read_metadata(place / CARD).get("base_model") or []
    return [named] if isinstance(named, str) else list(named)


def read_metadata(card: Path) -> dict:
    """The YAML metadata at the top of a model card; {} where there is none that can be read."""
    from huggingface_hub.repocard import metadata_load

    try:
        return metadata_load(card) or {}
    except Exception:  # no such file, or what the YAML library raises
        return {}


def _stated(place: Path) -> dict:
    """License and language of a model that something was made from."""
    licence = known_model(place).get("licence")
    return read_metadata(place / CARD) or ({"license": licence.lower()} if licence else {})


def _agreed(stated: list[dict], name: str):
    values = [one.get(name) for one in stated]
    same = values and all(value == values[0] for value in values)
    return values[0] if same and isinstance(values[0], str | list) else None


def _whole(base: Path) -> Path:
    """The folder of a whole model: of two towers each is read from a folder in it."""
    inside = base.name in SIDES and (base.parent / MANIFEST).exists()
    return base.parent if inside else base


def _loads_elsewhere(folder: Path) -> bool:
    """Whether modules.json is there and no pooler is one that only gemb has."""
    modes = [
        read_object(file).get("pooling_mode") for file in folder.glob("**/1_Pooling/config.json")
    ]
    return (folder / "modules.json").exists() and all(
        mode is None or mode in POOLING_FLAGS for mode in modes
    )
