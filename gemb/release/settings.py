"""Which model and which settings a command means, in a store that may have some already."""

from gemb.checks import UserError
from gemb.release.encoding import ModelEncoding
from gemb.release.making import MODEL
from gemb.release.refresh import Settings, open_parent
from gemb.search import KINDS
from gemb.store import VersionStore
from gemb.store.disk.layout import folder_of


def chosen_encoding(store: VersionStore, flags) -> tuple[ModelEncoding, Settings]:
    """The model that encodes, and the settings of the version.

    Args:
        store: the store.
        flags: "model" ("" for that of the live version), "dim", "dtype", "index_kind", "target".

    Returns:
        The model, at the width that the store has where `dim` is 0; and the settings.

    Raises:
        UserError: no version has a model; an unknown kind of index; and as `ModelEncoding`.
    """
    if not flags.model:
        live = _newest(store)
        folder = folder_of(store.folder, live.version) / MODEL
        if flags.dim and flags.dim != live.space.dim:
            raise UserError(
                f"--dim: {store} has vectors of {live.space.dim}; another width is another space: "
                "give --model too"
            )
        encoding = ModelEncoding(str(folder), live.space.dim)
    else:
        encoding = ModelEncoding(flags.model, flags.dim)
        held = [
            each.space.dim
            for each in store.versions()
            if each.readable
            and each.about.get("model", {}).get("fingerprint") == encoding.fingerprint
        ]
        if held and not flags.dim and held[0] != encoding.dim:
            encoding = ModelEncoding(flags.model, held[0])
    return encoding, _settings(store, encoding, flags)


def _settings(store: VersionStore, encoding: ModelEncoding, flags) -> Settings:
    """Those of the newest version of the model, but what flags say."""
    asked = Settings(flags.index_kind, flags.target, flags.dtype)
    if asked.kind not in KINDS:
        raise UserError(f"--index_kind: unknown {asked.kind!r}; known are {', '.join(KINDS)}")
    parent = open_parent(store, encoding)
    if parent is None:
        return asked
    kept = Settings(**parent.about["settings"])
    if flags["dtype"].present and asked.dtype != kept.dtype:
        raise UserError(
            f"--dtype: version {parent.version} has vectors of {kept.dtype}, and a refresh keeps "
            "them; leave the flag out"
        )
    return Settings(
        asked.kind if flags["index_kind"].present else kept.kind,
        asked.target if flags["target"].present else kept.target,
        kept.dtype,
    )


def _newest(store: VersionStore):
    """The live version, else the newest one, that keeps its model."""
    held = [each for each in store.versions() if each.readable and "model" in each.about]
    held = [each for each in held if (folder_of(store.folder, each.version) / MODEL).is_dir()]
    if not held:
        raise UserError(f"{store}: no version keeps its model; give --model")
    return next((each for each in held if each.state == "live"), held[0])
