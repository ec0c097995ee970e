"""Uploads a saved folder to the Hugging Face hub, in one commit."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gemb.checks import UserError
from gemb.pretrained.adapt import load
from gemb.pretrained.hub import is_hub_id
from gemb.pretrained.publishing.facts import CARD

_MESSAGE = "Upload a model with gemb"


class Pushed(NamedTuple):
    """What became of a push.

    Attributes:
        address: of the model's page.
        commit: its newest commit.
        changed: whether this push made that commit.
    """

    address: str
    commit: str
    changed: bool


def files_to_push(folder: Path) -> dict[str, int]:
    """The files of a model's folder and their bytes; hidden ones, such as .git, are left out.

    Raises:
        UserError: if gemb cannot load the folder, or it has no model card.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder of a saved model")
    load(str(folder))
    if not (folder / CARD).is_file():
        raise UserError(
            f"{folder} has no model card {CARD}: write one. For the model of a run `gemb evaluate "
            "--workdir=RUN` does so, for others gemb.load(FOLDER).save(FOLDER)"
        )
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        name.as_posix(): (folder / name).stat().st_size
        for name in names
        if not any(part.startswith(".") for part in name.parts)
    }


def push(folder: Path, name: str, *, private: bool = False) -> Pushed:
    """Makes the hub's repository hold the folder's files; files that are equal stay untouched.

    The repository is made where there is none. Files that only the hub has are kept.

    Args:
        folder: of a saved model.
        name: OWNER/NAME on the hub; `HF_ENDPOINT` names another server.
        private: whether the repository is to be private.

    Returns:
        Where it is, and whether there was anything to upload.

    Raises:
        UserError: for a folder that `files_to_push` refuses, a name that is no hub id, no token or
            one without the right to write, a public repository that should be private, or a
            network that is down.
    """
    check_name(name)
    files = files_to_push(folder)
    if os.environ.get("HF_ENDPOINT"):
        # Before the library is loaded. A server of one's own speaks LFS; Xet is the hub's storage.
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    api = HfApi()
    if not get_token():
        raise UserError(
            "there is no Hugging Face token: run `hf auth login`, or set HF_TOKEN to a token with "
            "the right to write"
        )
    with _in_one_line(api.endpoint, name):
        before = _repository(api, name, private)
        operations = [CommitOperationAdd(file, folder / file) for file in files]
        made = api.create_commit(name, operations, commit_message=_MESSAGE)
    return Pushed(f"{api.endpoint}/{name}", made.oid, made.oid != before)


def check_name(name: str) -> None:
    """Refuses what is no OWNER/NAME.

    Raises:
        UserError: naming it.
    """
    if not is_hub_id(name) or "@" in name:
        raise UserError(f"expected OWNER/NAME on the hub, got {name!r}")


def _repository(api, name: str, private: bool) -> str | None:
    """The newest commit of the repository, which is made where it is absent."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        found = api.model_info(name)
    except RepositoryNotFoundError:
        api.create_repo(name, private=private, exist_ok=True)
        return None
    if private and found.private is False:
        raise UserError(
            f"--private: {name} exists and is public; make it private on its page, or leave "
            "--private out"
        )
    return found.sha


@contextlib.contextmanager
def _in_one_line(endpoint: str, name: str) -> Iterator[None]:
    """Turns what the hub's library raises into one line that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except UserError:
        raise
    except OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE forbids the network; unset it to push") from None
    except HfHubHTTPError as error:
        raise UserError(f"{name}: {_refusal(error, name.split('/')[0])}") from None
    except Exception as error:  # of the HTTP library, another one by version, or of an upload
        said = _first_line(error.__cause__ or error)
        raise UserError(f"{name} cannot be pushed to {endpoint}: {said}") from None


def _refusal(error, owner: str) -> str:
    status = error.response.status_code if error.response is not None else None
    if status == 401:
        return "the hub does not accept the token; run `hf auth login`, or set HF_TOKEN again"
    if status in (403, 404):
        return (
            f"the token may not write there, or there is no such namespace {owner!r} (status "
            f"{status}); check the name, and that the token has the right to write"
        )
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
