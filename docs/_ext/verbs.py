"""One section per verb, from what `gemb VERB --help` prints."""

import contextlib
import io
import re

from gemb.cli.__main__ import VERBS, run

FLAG = re.compile(r"^  --(\w+): (.*(?:\n    .*)*)", re.MULTILINE)


def sections() -> str:
    """All verbs, in the order of use."""
    return "\n\n".join(_section(verb, help_of(verb)) for verb in VERBS)


def help_of(verb: str) -> str:
    """What `gemb VERB --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        run(verb, ["--help"])
    return printed.getvalue()


def _section(verb: str, text: str) -> str:
    about, _, flags = text.partition("\n\nFlags:\n")
    summary, *rest = about.split("\n\n")
    summary = summary.split(": ", 1)[1]
    usage = about.split(": ", 1)[0]
    parts = [f"## gemb {verb}", summary[0].upper() + summary[1:]]
    if usage != f"gemb {verb}":
        parts.append(f"Usage: `{usage}`")
    parts += [_block(part) for part in rest]
    rows = [f"| `--{name}` | {_plain(_joined(what))} |" for name, what in FLAG.findall(flags)]
    if rows:
        parts.append("\n".join(["| flag | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _joined(what: str) -> str:
    repeated = ";\n    repeat this option to specify a list of values"
    return " ".join(what.replace(repeated, "").split())


def _block(text: str) -> str:
    """A paragraph; indented lines are commands."""
    parts = re.split(r"\n(?=    \S)", text, maxsplit=1)
    if text.startswith("    "):
        return "```text\n" + re.sub("^    ", "", text, flags=re.MULTILINE) + "\n```"
    return "\n\n".join([_plain(parts[0]), *map(_block, parts[1:])])


def _plain(text: str) -> str:
    """Without Markdown's meaning, except of code in backticks."""
    spans = re.split(r"(`[^`\n]+`)", text)
    return "".join(
        span if span.startswith("`") else re.sub(r"([*_<>|\[\]`])", r"\\\1", span) for span in spans
    )
