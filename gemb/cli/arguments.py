"""Flags that several verbs share, and checks that run before anything heavy is imported."""

import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from gemb.checks import UserError
from gemb.files import local_folder

_ADDRESSES = ("endpoint", "host")  # flags that take URLs
flags.disclaim_key_flags()  # flags that are defined by functions are those of the calling verb


def define_version_flags() -> None:
    """Flags of verbs that make a version of a store: its model, records, settings and servers."""
    again = {"allow_override": True}
    flags.DEFINE_string("model", "", "Model folder or name.", **again)
    flags.DEFINE_string("corpus", "", "Folder or file with the documents.", **again)
    flags.DEFINE_string(
        "queries", "", "Folder or file with texts of the query side, such as users.", **again
    )
    flags.DEFINE_integer("dim", 0, "Nested width to keep; 0 is the full one.", **again)
    flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "Of vectors.", **again)
    flags.DEFINE_string(
        "index_kind", "exact", "Kind of index of a new generation, see `gemb index`.", **again
    )
    flags.DEFINE_float(
        "target", 0.99, "Agreement@10 with exact search to keep.", 0.01, 0.9999, **again
    )
    flags.DEFINE_bool("allow_shrink", False, "Accept that many documents are gone.", **again)
    define_server_flags()


def define_server_flags() -> None:
    """Flags of verbs that bring key stores and an index host along with a store."""
    again = {"allow_override": True}
    flags.DEFINE_list("keys", [], "Addresses of key stores, with commas.", **again)
    flags.DEFINE_string("host", "", "Address of an index host.", **again)
    flags.DEFINE_string("name", "vectors", "Name of the store on its server.", **again)


@contextlib.contextmanager
def open_servers(*, create: bool = False) -> Iterator[dict[str, list]]:
    """The key stores and the index host of --keys and --host, closed at the end.

    Args:
        create: whether to make folders and files that are missing.

    Yields:
        {"keys": key stores, "hosts": index hosts}.

    Raises:
        UserError: one is not there, or does not answer.
    """
    from gemb.store import open_store
    from gemb.store.hosts import open_host
    from gemb.store.keyed import is_address, open_keyed

    given = flags.FLAGS
    opened = {"keys": [], "hosts": []}
    with contextlib.ExitStack() as stack:
        name = given["name"].value
        for address in given.keys:
            if create or not is_address(address):
                made = open_keyed(address, name=name, dtype=given.dtype if create else "float32")
            else:
                made = open_store(address, name)  # makes no file
            opened["keys"].append(made)
            stack.callback(opened["keys"][-1].close)
        if given.host:
            opened["hosts"].append(open_host(given.host, name=name, create=create))
            stack.callback(opened["hosts"][-1].close)
        yield opened


def check_arguments(argv: list[str], *required: str) -> None:
    """Refuses words that are not flags, and required flags that are empty.

    Args:
        argv: the words that remain after the flags were read.
        required: names of the flags that a verb needs.

    Raises:
        UserError: naming the word or the flag.
    """
    if argv:
        raise UserError(f"unexpected argument {argv[0]!r}; flags are written --name=value")
    for flag in required:
        if not flags.FLAGS[flag].value:
            raise UserError(f"--{flag} is required")


def check_lists() -> None:
    """Refuses lists that are given twice, because only the last one would count.

    Raises:
        UserError: naming the flag.
    """
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if flag.present > 1 and isinstance(flag.parser, flags.ListParser):
            raise UserError(f"--{name} is given {flag.present} times; give it once, with commas")


def check_local(module: str) -> None:
    """Refuses URLs where a verb takes paths.

    Args:
        module: the verb's module.

    Raises:
        UserError: naming the flag.
    """
    for flag in flags.FLAGS.get_flags_for_module(module):
        url = isinstance(flag.value, str) and "://" in flag.value
        if url and flag.name not in _ADDRESSES:
            local_folder(f"--{flag.name}", flag.value)


def check_folder(flag: str) -> None:
    """Refuses an output folder that is a file, or is inside one.

    Raises:
        UserError: naming the flag and the file.
    """
    folder = Path(flags.FLAGS[flag].value)
    try:
        place = next(place for place in (folder, *folder.parents) if place.exists())
    except OSError as error:
        raise UserError(f"--{flag}: {folder}: {error.strerror}") from None
    if not place.is_dir():
        raise UserError(f"--{flag}: {place} is a file, not a folder")


def check_no_run(flag: str) -> None:
    """Refuses an output folder that is a run.

    Raises:
        UserError: naming the flag and the folder.
    """
    from gemb.runs.records import CONFIG_FILE

    folder = Path(flags.FLAGS[flag].value)
    if (folder / CONFIG_FILE).exists():
        raise UserError(
            f"--{flag}: {folder} is a run, which has its own report; choose another folder"
        )


def check_apart(flag: str, files: Sequence[str], *inputs: str) -> None:
    """Refuses an output folder in which an input file would be overwritten.

    Args:
        flag: the flag of the folder.
        files: names of the files that are written there.
        *inputs: files, patterns or folders; '' for none.

    Raises:
        UserError: naming the flag and the file.
    """
    check_folder(flag)
    written = {(Path(flags.FLAGS[flag].value) / name).resolve() for name in files}
    for given in map(os.path.expanduser, filter(None, inputs)):
        inside = Path(given).rglob("*") if Path(given).is_dir() else ()
        for path in [Path(given), *map(Path, glob.glob(given)), *inside]:
            if path.resolve() in written:
                raise UserError(
                    f"--{flag}: {path} is an input and would be overwritten; choose another folder"
                )


def check_absent(mode: str, *unread: str) -> None:
    """Refuses flags that a mode of a verb does not read.

    Args:
        mode: the flag that chooses the mode, for the message.
        *unread: names of flags.

    Raises:
        UserError: naming the first of them that is given.
    """
    for flag in unread:
        if flags.FLAGS[flag].present:
            raise UserError(f"--{flag} cannot be combined with {mode}; remove it")


def whole_numbers(flag: str) -> list[int]:
    """The numbers of a list flag.

    Raises:
        UserError: naming the flag and the value that is not a whole number.
    """
    for value in flags.FLAGS[flag].value:
        if not value.isdecimal():
            raise UserError(f"--{flag}: expected whole numbers with commas, got {value!r}")
    return [int(value) for value in flags.FLAGS[flag].value]


def short_names(flag: str, places: Sequence[str]) -> dict[str, str]:
    """A short name for each model: the name of its folder if all are unique, else the path.

    A folder that is called "model", as in every run, has the name of the run.

    Args:
        flag: the flag with the models, for the message.
        places: folders or names of models.

    Returns:
        name -> place.

    Raises:
        UserError: for a model that is given twice.
    """
    if len(set(places)) < len(places):
        raise UserError(f"--{flag}: a model is given twice: {','.join(places)}")
    paths = [Path(place) for place in places]
    short = [path.parent.name if path.name == "model" else path.name for path in paths]
    named = short if len(set(short)) == len(short) and all(short) else places
    return dict(zip(named, places, strict=True))
