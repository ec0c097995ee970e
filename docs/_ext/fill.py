"""Replaces `<!-- fill: NAME ARGUMENT -->` in a page by text that is made of the repository's files.

A verb's help or a list of configs on a page can therefore not differ from its source. Tables of
figures are in the page itself, see tables.py. The makers are in the modules next to this one.
"""

import functools
import re
from collections.abc import Callable

import config_pages
import verbs

MARK = re.compile(r"^<!-- fill: (configs|verbs) ?(.*?) -->$", re.MULTILINE)
MAKERS: dict[str, Callable[..., str]] = {
    "configs": config_pages.pieces,
    "verbs": verbs.sections,
}


def filled(text: str) -> str:
    """The page with every mark replaced."""
    return MARK.sub(lambda mark: _made(mark[1], *mark[2].split()), text)


@functools.cache
def _made(name: str, *arguments: str) -> str:
    return MAKERS[name](*arguments)


def _read(app, docname: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def _outdated(app, env, added, changed, removed) -> list[str]:
    """Pages with marks are read again in every build: their sources are other files."""
    paths = {name: env.doc2path(name) for name in env.found_docs}
    return [name for name, path in paths.items() if MARK.search(_text(path))]


def _text(path) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def setup(app) -> dict:
    app.connect("source-read", _read)
    app.connect("env-get-outdated", _outdated)
    return {"version": "1", "parallel_read_safe": True}
