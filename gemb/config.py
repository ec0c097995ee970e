"""gin, and its only importer: reads experiments, refuses mistakes, writes the resolved file.

Library code knows nothing of gin: configs name gemb's functions by dynamic registration.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import gin

from gemb.checks import UserError, suggest

ROOT = Path(__file__).resolve().parent.parent  # holds configs/ in a checkout
_IMPORT = re.compile(r"^(?:from \S+ )?import .+$", re.MULTILINE)
_DYNAMIC = "from __gin__ import dynamic_registration"


def load(files: Sequence[str], params: Sequence[str] = ()) -> None:
    """Reads gin files, then single bindings; later ones win.

    Files named in an `include` are looked for in the working directory, then in the checkout.

    Args:
        files: paths of .gin files.
        params: bindings such as "loop.train.steps = 10"; they may use what the files import.

    Raises:
        UserError: for a missing file, a misspelt function, parameter or macro, a macro that nothing
            refers to, or bad syntax.
    """
    gin.clear_config()
    for folder in (".", str(ROOT)):
        gin.add_config_file_search_path(folder)
    for file in files:
        if not (Path(file).exists() or (ROOT / file).exists()):
            raise UserError(f"--gin_file: {file} does not exist")
    try:
        gin.parse_config_files_and_bindings(list(files), [], finalize_config=False)
        imports = dict.fromkeys([_DYNAMIC, *_IMPORT.findall(gin.config_str())])
        for param in params:
            gin.parse_config("\n".join([*imports, param]))
        gin.finalize()
    except Exception as error:  # gin raises nearly every kind
        raise UserError(_one_line(error)) from None
    _check_bindings(gin.config_str())


def resolved() -> str:
    """The whole config as one file, without includes: that file alone reruns the job."""
    return gin.config_str(max_line_length=100)


def configured(function: Callable) -> Callable:
    """The function with its bindings.

    Raises:
        UserError: if the config binds nothing of it, or leaves a required argument unbound.
    """
    module, name = function.__module__.rsplit(".", 1)[-1], function.__name__
    try:
        wrapped = gin.get_configurable(function)
        bound = gin.get_bindings(function, resolve_references=False)
    except ValueError:  # no config has ever named it
        bound = {}
    if not bound:
        raise UserError(f"the config binds nothing of {module}.{name}")
    missing = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
        and parameter.default is parameter.empty
        and parameter.name not in bound
    ]
    if missing:
        raise UserError(f"the config does not bind {module}.{name}.{{{', '.join(missing)}}}")
    return wrapped


def arguments(function: Callable) -> dict:
    """The values that the config binds to the function's parameters, references resolved."""
    configured(function)
    return gin.get_bindings(function)


def _check_bindings(text: str) -> None:
    """Refuses what gin lets pass: unused macros, and misspelt names swallowed by **fields."""
    defined = re.findall(r"^([A-Za-z_]\w*) = ", text, re.MULTILINE)
    for macro in defined:
        if not re.search(rf"%{macro}\b", text):
            used = set(re.findall(r"%([A-Za-z_]\w*)", text))
            raise UserError(f"macro {macro} is defined but nothing uses it.{suggest(macro, used)}")
    bound = re.findall(r"^(?:[\w/]+/)?((?:\w+\.)+\w+)\.(\w+) = ", text, re.MULTILINE)
    for selector, parameter in bound:
        function = gin.get_configurable(selector)
        if isinstance(function, type):  # gin's subclass of it, whose own signature says nothing
            function = function.__init__
        known = inspect.signature(function).parameters.values()
        names = [p.name for p in known if p.kind is not p.VAR_KEYWORD]
        if parameter not in names:
            raise UserError(
                f"{selector} has no parameter {parameter!r}.{suggest(parameter, names)}"
            )


def _one_line(error: Exception) -> str:
    """gin's message with its place, on one line; of a missing macro only its name."""
    message = str(error)
    macro = re.search(r"'(\w+)/gin\.macro'", message)
    if macro:
        return f"config: %{macro[1]} is used but not defined"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    place = next((line for line in lines if re.match(r"In (file|bindings)", line)), "")
    return "config: " + " ".join(dict.fromkeys([*lines[:1], place, *lines[-1:]])).strip()
