"""Reads gin experiments, refuses mistakes, writes the resolved config. Only it imports gin.

Library code does not know gin: configs name gemb's functions by dynamic registration.
"""

import ast
import difflib
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import ContextDecorator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union

import gin

from gemb.bindings import Statement, only_read, read_from, statements, unread
from gemb.checks import UserError, suggest

_HERE = Path(__file__).resolve().parent
# gemb's own gin files: inside the package if a wheel was installed, next to it in a checkout.
CONFIGS = _HERE / "configs" if (_HERE / "configs").is_dir() else _HERE.parent / "configs"
_IMPORT = re.compile(r"^(?:from \S+ )?import .+$", re.MULTILINE)
_MACRO = re.compile(r"^([A-Za-z_]\w*) = (.*(?:\n +.*)*)", re.MULTILINE)
_BINDING = re.compile(r"^(?:[\w/]+/)?((?:\w+\.)+\w+)\.(\w+) = (.*(?:\n +.*)*)", re.MULTILINE)
_DYNAMIC = "from __gin__ import dynamic_registration"
_STATEMENTS: list[Statement] = []  # of the last load


def load(files: Sequence[str], params: Sequence[str] = ()) -> None:
    """Reads gin files, then single bindings; later statements win.

    Args:
        files: names of .gin files; they and their includes are found by `find`.
        params: bindings such as "STEPS = 10"; they may use what the files import.

    Raises:
        UserError: for a missing file, a misspelt function, parameter or macro, a macro that nothing
            refers to, or bad syntax.
    """
    gin.clear_config()
    for file in files:
        if find(file) is None:
            raise UserError(f"--gin_file: {absent(file)}")
    # gin's own readers look for an include in importable packages before other folders, and stop
    # with a TypeError at a folder named `configs` on Python's path.
    gin.config._FILE_READERS[:] = [(_open, lambda name: True)]
    try:
        gin.parse_config_files_and_bindings(list(files), [], finalize_config=False)
        imports = dict.fromkeys([_DYNAMIC, *_IMPORT.findall(gin.config_str())])
        for param in params:
            imports |= dict.fromkeys(_IMPORT.findall(param))
            gin.parse_config("\n".join([*imports, param]))
        gin.finalize()
    except Exception as error:  # gin raises nearly every kind
        raise UserError(_one_line(error)) from None
    _STATEMENTS[:] = statements(files, params, find)
    _check_bindings(gin.config_str())


def find(name: str) -> Path | None:
    """Finds a gin file: in the working directory, else among the files that gemb ships.

    Args:
        name: a path; one that begins with configs/ is found without a checkout too.

    Returns:
        The path of the file, or None.

    Example:
        >>> find("experiments/quickstart.gin").relative_to(CONFIGS)
        PosixPath('experiments/quickstart.gin')
    """
    places = (Path(name).expanduser(), CONFIGS.parent / name, CONFIGS / name)
    return next((place for place in places if place.is_file()), None)


def listing() -> list[str]:
    """Names of the gin files that gemb ships, for `find`: experiments/quickstart.gin, ..."""
    return sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.gin"))


def _open(name: str):
    path = find(name)
    if path is None:
        raise UserError(absent(name))
    return open(path, encoding="utf-8")


def absent(name: str) -> str:
    """The message for a missing gin file, with the name of a similar one."""
    names = {Path(one).stem: one for one in reversed(listing())}  # of two the first
    near = difflib.get_close_matches(Path(name).stem, names, n=1)
    hint = f". Did you mean {names[near[0]]}? `gemb configs` lists all" if near else ""
    return f"{name} does not exist{hint}"


def resolved(function: Callable) -> str:
    """The resolved config of a function as one file without includes, which reruns the job."""
    text = gin.config_str(max_line_length=100)
    return only_read(text, read_from(_name_of(function), text))


def check_read(function: Callable) -> None:
    """Refuses bindings that nothing reads when the function is called.

    Raises:
        UserError: with the first such binding.
    """
    name = _name_of(function)
    for one in unread(_STATEMENTS, read_from(name, gin.config_str())):
        kind = "binding" if one.function else "macro"
        raise UserError(
            f"config: nothing in this run reads the {kind} {one.name} = {one.value[:60]}; remove "
            "it, or check which MODEL, DATA, LOSS, ... the last file chose"
        )


def _name_of(function: Callable) -> str:
    return f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"


def configured(function: Callable) -> Callable:
    """The function with its bindings applied.

    Raises:
        UserError: if the config does not bind the function, or not all its required arguments.
    """
    place = _name_of(function)
    try:
        wrapped = gin.get_configurable(function)
        bound = gin.get_bindings(function, resolve_references=False)
    except ValueError:  # no config has named it
        bound = {}
    if not bound:
        raise UserError(f"the config does not bind {place}")
    missing = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.default is parameter.empty
        and parameter.name not in bound
    ]
    check_read(function)
    if missing:
        raise UserError(f"the config does not bind {place}.{{{', '.join(missing)}}}")
    return wrapped


def arguments(function: Callable) -> dict:
    """The values that the config binds to the function's parameters, references resolved.

    Raises:
        UserError: as `configured`, or for a reference with wrong parentheses.
    """
    configured(function)
    values, hints = gin.get_bindings(function), _hints(function)
    for name, value in values.items():
        hint, place = hints.get(name), f"{function.__name__}.{name}"
        kinds = {typing.get_origin(kind) or kind for kind in (hint, *typing.get_args(hint))}
        if hint is Callable and (not callable(value) or isinstance(value, ContextDecorator)):
            raise UserError(f"{place}: expected a reference without parentheses, got {value!r:.60}")
        if Callable not in kinds and inspect.isroutine(value):
            raise UserError(f"{place}: write the parentheses behind @...{value.__name__}")
    return values


def mistake(error: TypeError) -> str:
    """One line about the unbound argument for which gin's call failed, or ''."""
    missing = re.search(r"missing \d+ required .*", str(error))
    called = re.search(r"In call to configurable '(\w+)'", str(error))
    if not missing or not called:
        return ""
    return f"config: {called[1]}: {missing[0]}; bind it, or refer to {called[1]} without ()"


def _check_bindings(text: str) -> None:
    """Refuses mistakes that gin accepts: unused macros, wrong types, names taken by **kwargs."""
    macros = dict(_MACRO.findall(text))
    for macro in macros:
        if not re.search(rf"%{macro}\b", text) and not _is_optional(macro):
            used = set(re.findall(r"%([A-Za-z_]\w*)", text))
            raise UserError(f"macro {macro} is defined but nothing uses it.{suggest(macro, used)}")
    for selector, parameter, value in _BINDING.findall(text):
        function = gin.get_configurable(selector)
        if isinstance(function, type):  # gin's subclass has no useful signature
            function = function.__init__
        parameters = inspect.signature(function).parameters.values()
        names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        if parameter not in names:
            raise UserError(
                f"{selector} has no parameter {parameter!r}.{suggest(parameter, names)}"
            )
        hint = _hints(function).get(parameter, Any)
        known, literal = _literal(value, macros)
        if known and not _fits(literal, hint):
            expected = getattr(hint, "__name__", None) if isinstance(hint, type) else None
            expected = expected or re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(hint))
            raise UserError(f"{selector}.{parameter}: expected {expected}, got {literal!r}")


def _is_optional(macro: str) -> bool:
    return any(one.optional for one in _STATEMENTS if one.name == macro)


def _hints(function: Callable) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # annotations of another library, only for type checkers
        return {}


def _literal(text: str, macros: dict[str, str]) -> tuple[bool, Any]:
    """Whether a binding's right side is plain Python, also through macros, and its value."""
    text = re.sub(r"%(\w+)", lambda name: macros.get(name[1], name[0]), text)
    try:
        return True, ast.literal_eval(text.replace("\\\n", " ").strip())
    except (ValueError, SyntaxError):
        return False, None


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain Python value has the type; True if the type cannot be checked."""
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Any:
        return True
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is NoneType:
        return value is None
    if kind in (int, float):
        wanted = int if kind is int else int | float
        return isinstance(value, wanted) and not isinstance(value, bool)
    if kind in (tuple, list, Sequence):
        if not isinstance(value, tuple | list):
            return False
        if kind is tuple and parts and Ellipsis not in parts:  # so many, each of its own type
            return len(parts) == len(value) and all(map(_fits, value, parts))
        return all(_fits(each, part) for each in value for part in parts[:1])
    if kind in (dict, Mapping):
        return isinstance(value, dict) and all(
            _fits(each, part)
            for pair in value.items()
            for each, part in zip(pair, parts, strict=False)
        )
    if kind is Callable:
        return False
    if kind is typing.Literal:
        return value in parts
    if kind is Path:
        return isinstance(value, str)
    if getattr(kind, "_is_protocol", False):
        return False
    return isinstance(value, kind) if isinstance(kind, type) else True


def _one_line(error: Exception) -> str:
    """gin's message with its position on one line; for a missing macro only its name."""
    message = str(error)
    macro = re.search(r"'(\w+)/gin\.macro'", message)
    if macro:
        return f"config: %{macro[1]} is used but not defined"
    unknown = re.search(r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message)
    if unknown:
        known = inspect.signature(gin.get_configurable(unknown[1])).parameters
        named = f"{unknown[1]} has no parameter {unknown[2]!r}.{suggest(unknown[2], known)}"
        message = message.replace(unknown[0] + ".", named)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    place = next((line for line in lines if re.match(r"In (file|bindings)", line)), "")
    return "config: " + " ".join(dict.fromkeys([*lines[:1], place, *lines[-1:]])).strip()
