"""Pages of pictures: what a query found, and pairs that look alike. Thumbnails are inside."""

import os
from collections.abc import Sequence
from html import escape

from gemb.reports.html import section, write_page

Shown = tuple[str, str, str]  # value of src, caption, remark


def write_found(path: str | os.PathLike, found: Sequence[tuple[str, str, Sequence[Shown]]]) -> None:
    """Writes what queries found.

    Args:
        path: the page.
        found: for each query its text, the value of `src` of its picture ("" for a text), and its
            hits, best first.

    Raises:
        UserError: the file cannot be written.
    """
    parts = [
        section(query, "", picture(src, "", "") if src else "", grid(hits))
        for query, src, hits in found
    ]
    title = found[0][0] if len(found) == 1 else "Pictures found"
    write_page(path, title, "The score is the cosine of query and picture.", parts)


def write_pairs(
    path: str | os.PathLike, title: str, about: str, pairs: Sequence[tuple[Shown, Shown]]
) -> None:
    """Writes pairs of pictures, side by side.

    Raises:
        UserError: the file cannot be written.
    """
    write_page(path, title, about, [section("", "", grid(pair)) for pair in pairs])


def grid(shown: Sequence[Shown]) -> str:
    """Pictures side by side."""
    return f'<div class="thumbnails">{"".join(picture(*one) for one in shown)}</div>'


def picture(src: str, caption: str, remark: str) -> str:
    """One picture with its caption."""
    return (
        f'<figure><img src="{escape(src)}" alt="{escape(caption)}" loading="lazy">'
        f'<figcaption>{escape(caption)} <span class="quiet">{escape(remark)}</span></figcaption>'
        "</figure>"
    )
