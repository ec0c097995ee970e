"""The texts by which programs are compared: real ones of the user's machine, and awkward ones."""

import importlib
import inspect
from collections.abc import Sequence

from gemb.checks import UserError
from gemb.models.model import Model

_MODULES = (
    *("argparse", "collections", "difflib", "email", "json", "logging", "numpy", "pathlib"),
    *("random", "re", "statistics", "string", "textwrap", "urllib.parse", "zipfile"),
)
_AWKWARD = (
    "",
    "a",
    "MiXeD CaSe and UPPER CASE",
    "naïve café, Ünïcödé, ÇA VA",
    "日本語のテキストと漢字",
    "한국어 문장",
    "العربية نص",
    "🙂🙂 emoji 👩‍👩‍👧‍👦 family",
    "tab\tand\nnew line",
    "a [SEP] b </s> c [MASK] d",
    "def f(x):\n    return x ** 2\n",
    "https://example.org/a?b=c&d=%20",
    "word " * 1000,
    "x" * 3000,
)


def check_texts(model: Model, message: str) -> None:
    """Checks that both sides of a model read texts and nothing else.

    Raises:
        UserError: with the message and what else it reads.
    """
    for tower in model.towers.values():
        if (kind := tower.processor.modality) != "text":
            raise UserError(f"{message}; this one reads {kind!r}")


def real_texts(count: int = 64, special: Sequence[str] = ()) -> list[str]:
    """Awkward texts first, then docstrings of the standard library and numpy, of many lengths.

    Args:
        count: how many.
        special: the names of a tokenizer's special tokens, which one text holds.
    """
    texts = [*_AWKWARD, "names of tokens: " + " inside ".join(special)]
    for name in _MODULES:
        module = importlib.import_module(name)
        members = [getattr(module, member, None) for member in sorted(dir(module))]
        found = [inspect.getdoc(m) for m in members if inspect.isroutine(m) or inspect.isclass(m)]
        texts += [doc[: 20 + 37 * (i % 30)] for i, doc in enumerate(filter(None, found))]
    return list(dict.fromkeys(texts))[:count]
