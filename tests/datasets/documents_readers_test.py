"""Each format's reader: nothing but white space is lost, headings and lines are right."""

import json

import pytest

from gemb.datasets.documents.document import Unreadable
from gemb.datasets.documents.html_page import read_html
from gemb.datasets.documents.markdown import read_markdown
from gemb.datasets.documents.notebook import read_notebook
from gemb.datasets.documents.plain import read_code, read_text
from gemb.datasets.documents.python_source import read_python
from gemb.datasets.documents.restructured import read_restructured

MARKDOWN = """\
---
title: "The guide"
# no heading: front matter
---
Before any heading.

# First `part`
Text of the
first part.
```python
# no heading: a comment

x = 1
~~~
```
Setext title
over two lines
============
- item
  ---
> quoted
===

| a | b |
|---|---|
| 1 | 2 |

<!--
# no heading: a comment

-->
    # no heading: code
#NoHeading: no space
## Second [part](x.md) ##
~~~~
```
# still inside
~~~
~~~~
### Deep
#
# Third
```
never closed
# so inside
"""

REST = """\
=====
Title
=====

Intro with a colon::

    Literal
    =======

    text

Part
----
.. code-block:: python

   Under
   -----

   x = 1

+---+---+
| a | b |
+---+---+

Sub
~~~
===  ===
A    B
===  ===
1    2
===  ===

Other
-----
- item

----------

the end
"""

PYTHON = '''\
"""Module."""
import os

# About f.
@decorator
def f(x):
    """Doc."""

    def inner(): pass

    return """
# no comment
"""


class A(Base):
    """Doc of A."""

    size = 1

    # About g.
    def g(self): return 1

    class B:
        async def h(self):
            pass


if os:
    def late(): pass
'''

HTML = """\
<!DOCTYPE html><html><head><title>A &amp; B</title><style>p {color: red}</style>
<script>var x = "<h1>no</h1>";</script></head>
<body><nav><ul><li>Home<li>Docs</ul></nav>
<h1>Caf&eacute; <em>guide</em></h1>
<div>One
  two <b>three</b>.<div>Nested &lt;tag&gt; &#x4f60;&#22909; &nosuch; &amp</div>tail</div>
<h2>Code</h2><pre>  a = 1

  b   = 2</pre>
<table><tr><th>k<th>v</tr><tr><td>a</td><td>1 &lt; 2</td></tr></table>
<!-- <h1>no</h1> --><![if IE]>x<![endif]>
<p>un<wbr>broken<br>line<template><p>no</p></template>
<h3>Last</h3>
</body></html>
"""


def parts(document):
    return [(document.text[b.start : b.end], b.headings) for b in document.blocks]


def check_whole(document):
    """The blocks are in order and apart, and all between them is white space."""
    at, section = 0, 0
    for block in document.blocks:
        assert at <= block.start < block.end
        assert not document.text[at : block.start].strip(" \n\t\f\r\ufeff")
        assert not document.text[block.start : block.end][-1].isspace()
        assert block.section >= section
        at, section = block.end, block.section
    assert not document.text[at:].strip()


TEXTS = [
    "",
    " \n",
    "one",
    "\ufeffone\n\n\ftwo\n \nthree\x0bfour\n",
    "\n\n# a\n\n\n",
    "a\n=\n",
    "===\n",
    "```\n",
    "| a |\n|--|\n",
    "---\n---\n",
    "---\nx",
    ".. x\n",
    "::\n\n a\n",
    "# a\r\n",
    "#",
    "- a\n===\n",
    "def f(:\n\n  x",
    "x = 1; \\\n\n y = 2",
    "<p>a<p>",
    "&#",
    "a &# b &#x; <p>c</p> &",
    "<![foo]> a",
    "<a",
    "<",
    "<title>x",
    "a\u2028b\n\nc",
    "<table><tr><td><table><tr><td>x",
    "</p></div>a",
    "<pre>\n\n a\n</pre>",
    MARKDOWN,
    REST,
    PYTHON,
    HTML,
]
READERS = (read_text, read_code, read_markdown, read_restructured, read_python, read_html)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_no_reader_loses_text_or_fails(reader):
    for text in TEXTS:
        document = reader(text)
        check_whole(document)
        assert reader is read_html or document.text == text


def test_markdown_headings_are_those_outside_of_fences_comments_and_front_matter():
    made = read_markdown(MARKDOWN)
    assert made.title == "The guide"
    found = [block.headings for block in made.blocks if block.is_heading]
    top = "Setext title over two lines"
    assert found == [
        ("First part",),
        (top,),
        (top, "Second part"),
        (top, "Second part", "Deep"),
        (),
        ("Third",),
    ]
    whole = [text for text, _ in parts(made) if text.startswith(("```", "~~~~", "| a", "<!--"))]
    assert [text.splitlines()[-1] for text in whole] == [
        "```",
        "| 1 | 2 |",
        "-->",
        "~~~~",
        "# so inside",
    ]
    assert read_markdown("\ufeff# A\n").blocks[0].headings == ("A",)
    assert read_markdown("text\n").title == ""


def test_markdown_headings_are_those_of_a_commonmark_library():
    markdown_it = pytest.importorskip("markdown_it")
    text = MARKDOWN.split("---\n", 2)[2]
    tokens = markdown_it.MarkdownIt().enable("table").parse(text)
    lines = [token.map[0] for token in tokens if token.type == "heading_open" and not token.level]
    made = read_markdown(text)
    own = [text.count("\n", 0, block.start) for block in made.blocks if block.is_heading]
    assert own == lines


def test_sections_of_restructured_text():
    made = read_restructured(REST)
    assert made.title == "Title"
    found = [block.headings for block in made.blocks if block.is_heading]
    assert found == [("Title",), ("Title", "Part"), ("Title", "Part", "Sub"), ("Title", "Other")]
    whole = [text.split()[0] for text, _ in parts(made) if "x = 1" in text or "A    B" in text]
    assert whole == ["..", "==="]
    assert any(text.startswith("    Literal") and "text" in text for text, _ in parts(made))


def test_python_is_cut_at_functions_and_methods():
    made = read_python(PYTHON)
    found = {names: text for text, names in parts(made)}
    assert list(found) == [(), ("f",), ("A",), ("A", "g"), ("A", "B"), ("A", "B", "h")]
    assert found["f",].startswith("# About f.\n@decorator\ndef f(x):")
    assert found["f",].endswith('# no comment\n"""')
    assert found["A", "g"] == "    # About g.\n    def g(self): return 1"
    sections = {block.headings: block.section for block in made.blocks}
    assert sections["A",] == sections["A", "g"] != sections["f",]
    assert read_python("print 'old'\n\nx").blocks == read_code("print 'old'\n\nx").blocks


def test_html_is_its_visible_text():
    made = read_html(HTML)
    assert made.title == "A & B"
    assert parts(made) == [
        ("Home", ()),
        ("Docs", ()),
        ("Café guide", ("Café guide",)),
        ("One two three.", ("Café guide",)),
        ("Nested <tag> 你好 &nosuch; &", ("Café guide",)),
        ("tail", ("Café guide",)),
        ("Code", ("Café guide", "Code")),
        ("  a = 1\n\n  b   = 2", ("Café guide", "Code")),
        ("k | v\na | 1 < 2", ("Café guide", "Code")),
        ("x", ("Café guide", "Code")),
        ("unbroken\nline", ("Café guide", "Code")),
        ("Last", ("Café guide", "Code", "Last")),
    ]
    assert [made.text[b.start : b.end][:1] for b in made.blocks if b.whole] == [" ", "k"]


def test_places_in_html_are_those_of_the_source():
    made = read_html(HTML)
    for word in ("Docs", "Café", "three", "Nested", "tail", "b   = 2", "unbroken", "Last"):
        at = made.text.index(word)
        start, end = made.source(at, at + len(word))
        written = HTML[start:end]
        plain = written.replace("&eacute;", "é").replace("<wbr>", "")
        assert plain == word
    start, end = made.source(made.text.index("你"), made.text.index("你") + 1)
    assert HTML[start:end] == "&#x4f60;"


def cell(kind, source):
    return {"cell_type": kind, "metadata": {}, "source": source}


def test_cells_of_a_notebook_and_their_lines():
    cells = [
        cell("markdown", ["# Title\n", "Text “é” \\ \t.\n"]),
        cell("code", []),
        cell("code", "# no heading\n\nx = '\ud800'"),
        cell("markdown", ["```\n", "# none\n", "```"]),
        cell("raw", "a\n\nb"),
        cell("markdown", ["## Part\n", "\n", "the end"]),
    ]
    text = json.dumps({"cells": cells, "nbformat": 4}, indent=1)
    made = read_notebook(text)
    check_whole(made)
    assert made.title == "Title"
    assert parts(made) == [
        ("# Title", ("Title",)),
        ("Text “é” \\ \t.", ("Title",)),
        ("# no heading\n\nx = '?'", ("Title",)),
        ("```\n# none\n```", ("Title",)),
        ("a", ("Title",)),
        ("b", ("Title",)),
        ("## Part", ("Title", "Part")),
        ("the end", ("Title", "Part")),
    ]
    for word in ("# Title", "Text", "# none", "the end"):
        at = made.text.index(word)
        start, end = made.source(at, at + len(word))
        assert text[start:end].removesuffix("\\n") == word
    older = {"worksheets": [{"cells": [{"cell_type": "code", "input": "x"}]}]}
    assert read_notebook("\ufeff" + json.dumps(older)).text == "x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"cells": 3}',
        '{"cells": [{}]}',
        '{"cells": [3]}',
        "[" * 99_999,
        '{"cells": [{"cell_type": "code", "source": [3]}]}',
        '{"worksheets": [{}]}',
    ],
)
def test_a_broken_notebook_is_told(text):
    with pytest.raises(Unreadable, match="broken notebook"):
        read_notebook(text)
