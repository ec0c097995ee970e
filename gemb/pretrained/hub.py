"""Models of the Hugging Face hub by their id, in the hub's own cache, which transformers shares.

What `models.txt` pins is `fetch.py`'s; here is any other model, as its owner publishes it.
"""

import os
import re
from pathlib import Path

from gemb.checks import UserError

_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?")
_FILES = ("*.json", "*.jinja", "*.safetensors", "*.txt", "*.model", "README.md")
_OTHERS = ("onnx/*", "openvino/*")


def is_hub_id(name: str) -> bool:
    """Whether a name may be a model on the hub, OWNER/NAME or OWNER/NAME@REVISION.

    Example:
        >>> is_hub_id("intfloat/e5-small-v2@main"), is_hub_id("e5-small-v2"), is_hub_id("/a/b")
        (True, False, False)
    """
    return _ID.fullmatch(name) is not None


def fetch_from_hub(name: str, *, force: bool = False) -> Path:
    """Downloads weights, tokenizer and configs, with the library's own resuming and checking.

    Args:
        name: OWNER/NAME, or OWNER/NAME@REVISION with a branch, tag or commit.
        force: whether to download what is there.

    Returns:
        The folder in the hub's cache (`HF_HOME` moves it).

    Raises:
        UserError: for an id or revision that does not exist or is not public, no network, or a
            model without safetensors.
    """
    try:
        folder = _snapshot(name, force_download=force)
    except Exception as error:  # also those of the HTTP library, another one by version
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{name} cannot be had from the Hugging Face hub: {said}. Check the id, the network, "
            "and for a gated model HF_TOKEN"
        ) from None
    if not any(folder.rglob("*.safetensors")):
        raise UserError(
            f"{name} holds no safetensors, and pickles are not read; look for a revision that does"
        )
    return folder


def hub_folder(name: str) -> Path:
    """The folder of a fetched model, without network access.

    Raises:
        UserError: saying which `gemb fetch` to run.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return _snapshot(name, local_files_only=True)
    except (LocalEntryNotFoundError, ValueError):
        raise UserError(
            f"no model folder {name}, nor is it in the Hugging Face cache: for the hub's model of "
            f"this id run `gemb fetch {name}` first"
        ) from None


def _snapshot(name: str, **options) -> Path:
    from huggingface_hub import snapshot_download

    repository, revision = _ID.fullmatch(name).groups()
    found = snapshot_download(
        repository,
        revision=revision,
        allow_patterns=list(_FILES),
        ignore_patterns=list(_OTHERS),
        endpoint=os.environ.get("HF_ENDPOINT"),
        **options,
    )
    return Path(found)
