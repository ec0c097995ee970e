"""The house's words: patterns that a page, docstring, help text or error does not use, and why.

`findings(text)` gives (line, what, hint). docs/writing.md explains the list to people.
"""

import re
from collections.abc import Iterator

# pattern -> what to write. A pattern is a regular expression; case is ignored.
WORDS = {
    r"shall": "must, will, or the plain verb",
    r"tells?|told": "says, shows, reports",
    r"beside": "next to, with, in addition to",
    r"lies|lie|lay": "is, add, put",
    r"outlives?|outlive": "is resumable",
    r"stands? (?:in|behind|next|before|there|for itself)": "is",
    r"teaches one": "explains",
    r"nobody|no one": "name what is missing",
    r"by heart": "overfitted",
    r"(?:row|line|column|text|task|layer|batch|file|verb|pair|query|width) an? "
    r"(?:row|line|column|text|task|layer|batch|file|verb|pair|query|width|token|step|document)":
        "one ... per ...",
    r"for want of": "because ... is missing",
    r"afresh|anew": "again",
    r"hither|thither|whence|whereupon|thereof|therein|wherein|whereof": "the usual word",
    r"ere|lest|save for|aught|naught": "the usual word",
    r"that which": "what",
    r"as ever": "as before",
    r"betwixt|amongst|whilst": "between, among, while",
    r"bids|bade|begets|begotten": "the usual word",
    r"is no (?:dict|list|text|number|model|folder|file|index|run)": "is not a ...",
    r"goes? on|went on": "continues",
    r"laid|lay behind": "added after",
    r"affair": "is done in ...",
    r"if (?:they|it|you) likes?": "optional",
}  # fmt: skip
_ONE_OF = "|".join(f"(?P<w{i}>{word})" for i, word in enumerate(WORDS))
_ALL = re.compile(rf"(?<![\w/.-])(?:{_ONE_OF})(?![\w-])", re.IGNORECASE)
_HINTS = list(WORDS.values())
QUESTION = re.compile(
    r"\b(?:which|what|who|is|are|does|do|can|has|how)\b[^.;:\n]*\?", re.IGNORECASE
)
CODE = re.compile(r"```.*?^```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", re.DOTALL | re.MULTILINE)


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """The words of the list in a text, with their lines; code in backticks does not count."""
    plain = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    for match in _ALL.finditer(plain):
        number = plain.count("\n", 0, match.start()) + 1
        which = next(int(name[1:]) for name, value in match.groupdict().items() if value)
        yield number, match[0], _HINTS[which]


def asks(error: str) -> bool:
    """Whether an error message is a question; "Did you mean ...?" is a suggestion."""
    return bool(QUESTION.search(error.replace("Did you mean", "")))
