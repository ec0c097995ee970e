"""The bare HTML of a report: page, sections, tables. All text passed in is escaped.

A page is one file: it loads no script, font or picture.
"""

import os
from collections.abc import Mapping, Sequence
from html import escape

from gemb.files import atomic_file

_CSS = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --text: #1d2330;
  --quiet: #5d6675; --line: #d9dde4; --accent: #2f7de1; --right: #187a48; --wrong: #b3324a;
  --right-back: #e5f5ec; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1a1f28; --text: #e4e8ee;
  --quiet: #9aa4b2; --line: #343c49; --accent: #6aa5f2; --right: #5ccb92; --wrong: #ef7f92;
  --right-back: #173326; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 0 0 4px; }
h3 { font-size: 14px; margin: 0 0 8px; }
p { margin: 0 0 14px; } .quiet { color: var(--quiet); font-size: 14px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 22px 24px; margin-top: 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px;
  margin-top: 22px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 18px; }
.tile b { display: block; font-size: 28px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr));
  gap: 24px; }
.thumbnails { display: flex; flex-wrap: wrap; gap: 24px; } .thumbnails figure { width: 150px; }
figure { margin: 0; min-width: 0; max-width: 720px; }
figcaption { font-weight: 600; font-size: 14px; }
svg { width: 100%; height: auto; display: block; } svg text { font-family: inherit !important; }
.map { background: var(--page); border-radius: 8px; } .map > * { opacity: 0.85; }
.map > circle:hover, .map > path:hover { opacity: 1; stroke: var(--text); stroke-width: 2; }
.legend { font-size: 13px; color: var(--quiet); margin: 6px 0 0; }
.legend span { white-space: nowrap; margin-right: 14px; display: inline-block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 6px 12px; text-align: left; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
thead th { color: var(--quiet); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.group td { border-top: 2px solid var(--line); } tbody tr:last-child td { border-bottom: 0; }
tr.right { background: var(--right-back); }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 24px; margin: 0;
  font-size: 14px; } dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
details { border-top: 1px solid var(--line); padding: 10px 0; }
summary { cursor: pointer; } summary .quiet { margin-left: 8px; white-space: nowrap; }
details .grid { margin: 12px 0 4px; } details td { padding: 5px 8px; vertical-align: top; }
td.mark { width: 1%; font-weight: 700; color: var(--wrong); }
tr.right td.mark { color: var(--right); }
.scroll + .grid { margin-top: 20px; }
@media (max-width: 600px) { main { padding: 24px 12px 40px; } section { padding: 16px 14px; }
  h1 { font-size: 24px; } summary .quiet { white-space: normal; } figure { overflow-x: auto; }
  figure svg:not(.map) { min-width: 400px; } }
.better { color: var(--right); } .worse { color: var(--wrong); }
@media print { body { background: none; } section { break-inside: avoid; } }
"""


def page(title: str, subtitle: str, parts: Sequence[str]) -> str:
    """A whole HTML page.

    Args:
        title: the heading, also the name of the browser's tab.
        subtitle: a line below it, possibly empty.
        parts: HTML of the tiles and sections, in order.

    Returns:
        The page as text.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty inline icon; otherwise a browser requests /favicon.ico.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="quiet">{escape(subtitle)}</p>\n</header>\n'
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def write_page(path: str | os.PathLike, title: str, subtitle: str, parts: Sequence[str]) -> None:
    """Writes a `page`; an existing file is replaced in one step.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(page(title, subtitle, parts), encoding="utf-8")


def section(title: str, about: str, *parts: str) -> str:
    """A card with a heading, a line that explains it, and HTML."""
    about = f'<p class="quiet">{escape(about)}</p>' if about else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{about}\n" + "\n".join(parts) + "\n</section>"


def tiles(figures: Sequence[tuple[str, str, str]]) -> str:
    """Large figures side by side; each is (figure, what it is, remark)."""
    shown = (
        f'<div class="tile"><span class="quiet">{escape(what)}</span><b>{escape(figure)}</b>'
        f'<span class="quiet">{escape(remark)}</span></div>'
        for figure, what, remark in figures
    )
    return f'<div class="tiles">{"".join(shown)}</div>' if figures else ""


def figures(captioned: Mapping[str, str]) -> str:
    """SVG elements side by side, by caption."""
    shown = (
        f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"
        for caption, svg in captioned.items()
    )
    return f'<div class="grid">{"".join(shown)}</div>'


def definitions(values: Mapping[str, object]) -> str:
    """A list of names and values."""
    shown = (f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in values.items())
    return f"<dl>{''.join(shown)}</dl>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first `texts` columns are words and the others figures.

    A row whose first cell differs from the one above starts a new group; an empty one continues it.
    """
    kinds = ["" if column < texts else ' class="number"' for column in range(len(head))]
    top = "".join(f"<th{kind}>{escape(h)}</th>" for kind, h in zip(kinds, head, strict=True))
    body, above = [], None
    for row in rows:
        cells = (f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        group = ' class="group"' if row[0] and above not in (None, row[0]) else ""
        body.append(f"<tr{group}>{''.join(cells)}</tr>")
        above = row[0] or above
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
