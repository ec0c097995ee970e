"""Checks of inputs: errors name the argument, what was expected and what was given.

`UserError` is for mistakes that the user can fix (a flag, a file, a config):
the verbs print its one line and exit with status 2. `ArgumentError`, a ValueError, is for wrong
arguments from calling code or from a config, so the verbs print its line too.
Nothing here imports JAX, so that arguments can be checked before anything heavy starts.
"""

import contextlib
import difflib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence


class UserError(Exception):
    """A mistake outside the code, reported in one line that says what to do about it.

    Attributes:
        status: the exit status of the verbs.
        shared: whether every process of a run raised the same error, so that none waits for
            another.
    """

    status = 2
    shared = False


class ArgumentError(UserError, ValueError):
    """A wrong argument, from calling code or from a config."""


class MissingExtra(UserError):
    """A library of one of gemb's extras that is not installed or cannot be imported."""


@contextlib.contextmanager
def needs(what: str, *, extra: str) -> Iterator[None]:
    """Wraps the import of an optional library: if it is missing, the error names the extra.

    Args:
        what: what needs the library; the message starts with it.
        extra: the extra of setup.py that installs the library.

    Raises:
        MissingExtra: the library is not installed, or its import fails.

    Example:
        >>> with needs("approximate search", extra="scann"):
        ...     import no_library
        Traceback (most recent call last):
        ...
        gemb.checks.MissingExtra: approximate search needs no_library: pip install 'gemb[scann]'
    """
    try:
        yield
    except ImportError as error:
        library = (error.name or "a library").partition(".")[0]
        if library == "gemb":  # a mistake in gemb itself
            raise
        if not isinstance(error, ModuleNotFoundError):
            library += f", which cannot be imported ({error})"
        raise _missing(what, library, extra) from error


def require(library: str, what: str, *, extra: str) -> None:
    """Checks that an optional library is installed, before long work that needs it at its end.

    Args:
        library: the name to import.
        what: what needs the library; the message starts with it.
        extra: the extra of setup.py that installs the library.

    Raises:
        MissingExtra: the library is not installed.
    """
    if not installed(library):
        raise _missing(what, library, extra)


def installed(library: str) -> bool:
    """Whether a library can be found, without importing it.

    Example:
        >>> installed("numpy"), installed("no_such_library")
        (True, False)
    """
    try:
        return importlib.util.find_spec(library) is not None
    except (ModuleNotFoundError, ValueError):  # ValueError: a stand-in without a spec
        return False


def _missing(what: str, library: str, extra: str) -> MissingExtra:
    return MissingExtra(f"{what} needs {library}: pip install 'gemb[{extra}]'")


def check(condition: bool, message: str) -> None:
    """Raises ArgumentError with `message` unless `condition` holds."""
    if not condition:
        raise ArgumentError(message)


def check_rank(name: str, array, rank: int) -> None:
    """Checks that `array` has `rank` dimensions.

    Args:
        name: the argument's name in messages.
        array: anything with a `shape`.
        rank: the number of dimensions expected.

    Raises:
        ValueError: with the argument's name, the expected rank and the given shape.

    Example:
        >>> import numpy as np
        >>> check_rank("query", np.zeros(3), 2)
        Traceback (most recent call last):
        ...
        gemb.checks.ArgumentError: query: expected 2 dimensions, got shape (3,)
    """
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) != rank:
        raise ArgumentError(f"{name}: expected {rank} dimensions, got shape {shape}")


def check_shape(name: str, array, shape: Sequence[int | None]) -> None:
    """Checks the shape of `array`; None in `shape` matches any size.

    Raises:
        ValueError: with the argument's name, the expected shape and the given shape.
    """
    actual = tuple(getattr(array, "shape", ()))
    expected = tuple(shape)
    fits = len(actual) == len(expected) and all(
        e is None or e == a for e, a in zip(expected, actual, strict=True)
    )
    if not fits:
        shown = "(" + ", ".join("any" if e is None else str(e) for e in expected) + ")"
        raise ArgumentError(f"{name}: expected shape {shown}, got {actual}")


def check_floating(name: str, array) -> None:
    """Checks that `array` holds floats (float64, float32, float16 or bfloat16).

    Raises:
        ValueError: with the argument's name and the given dtype.
    """
    dtype = getattr(array, "dtype", None)
    if dtype is None or not (getattr(dtype, "kind", "") == "f" or str(dtype) == "bfloat16"):
        raise ArgumentError(f"{name}: expected a floating dtype, got {dtype}")


def check_integer(name: str, array) -> None:
    """Checks that `array` holds integers.

    Raises:
        ValueError: with the argument's name and the given dtype.
    """
    dtype = getattr(array, "dtype", None)
    if dtype is None or getattr(dtype, "kind", "") not in "iu":
        raise ArgumentError(f"{name}: expected an integer dtype, got {dtype}")


def check_bool(name: str, array) -> None:
    """Checks that `array` is a boolean mask.

    Raises:
        ValueError: with the argument's name and the given dtype.
    """
    dtype = getattr(array, "dtype", None)
    if dtype is None or getattr(dtype, "kind", "") != "b":
        raise ArgumentError(f"{name}: expected a bool mask (True = real), got dtype {dtype}")


def check_widths(name: str, widths: Sequence[int], dim: int) -> tuple[int, ...]:
    """Checks nested (Matryoshka) widths: positive, distinct, none above `dim`.

    Returns:
        The widths as a tuple, widest first.

    Raises:
        ValueError: with the argument's name and the wrong width.
    """
    widths = tuple(int(width) for width in widths)
    if not widths:
        raise ArgumentError(f"{name}: expected at least one width, got none")
    for width in widths:
        if not 1 <= width <= dim:
            raise ArgumentError(f"{name}: expected widths between 1 and {dim}, got {width}")
    if len(set(widths)) != len(widths):
        raise ArgumentError(f"{name}: expected distinct widths, got {widths}")
    return tuple(sorted(widths, reverse=True))


def check_names(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuses a name that is not known.

    Args:
        where: the setting, which begins the message.
        given: names.
        known: the names that there are.

    Raises:
        UserError: for the first unknown one, with the known one that is most like it.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise UserError(f"{where}: unknown {name!r}.{suggest(name, known)}")


def suggest(word: str, known: Iterable[str]) -> str:
    """A ' Did you mean ...?' clause for a misspelt name, or '' if no name is similar.

    Example:
        >>> suggest("temprature", ["temperature", "symmetric"])
        ' Did you mean temperature?'
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""
