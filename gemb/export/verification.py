"""`gemb verify`: a folder's vectors in gemb against those in other programs, on real texts."""

import dataclasses
from pathlib import Path

from gemb.checks import MissingExtra, UserError
from gemb.export.consumers import CONSUMERS, Case, Encode, NotForThis
from gemb.export.measure import Difference
from gemb.export.rules import check_rules
from gemb.export.texts import check_texts, real_texts
from gemb.inference.embedder import Embedder
from gemb.models.model import Model
from gemb.pretrained.adapt import load
from gemb.pretrained.fetch import model_folder
from gemb.structs import SIDES

LEAST = 0.9999  # cosine at which vectors count as the same
SAME, DIFFERENT, MISSING = "same", "DIFFERENT", "not installed"


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        consumer: the program.
        what: prompt and width, or the key that it reads.
        difference: None where nothing was computed.
        verdict: SAME, DIFFERENT, MISSING, or why the program does not take the model.
    """

    consumer: str
    what: str
    difference: Difference | None
    verdict: str


def verify(model: str, *, texts: int = 64) -> list[Row]:
    """Compares a folder's vectors in gemb and in each program that is installed.

    Args:
        model: a folder, or the name of a fetched model.
        texts: how many real texts.

    Returns:
        One row for each program, prompt and width, then one for each key that servers read.

    Raises:
        UserError: for a folder that gemb does not read, or a model of other values than texts.
    """
    folder, loaded = model_folder(model), load(model)
    check_texts(loaded, "verify: only models of texts are compared")
    given = real_texts(texts, loaded.document.processor.tokenizer().special)
    cases = _cases(loaded)
    ours = {}
    for case in cases:
        embedder = Embedder(loaded).with_prompts({case.side: case.prompt})
        for width in _widths(loaded):
            ours[case, width] = embedder.encode(given, dim=width, kind=case.side)
    rows = []
    for name, make in CONSUMERS.items():
        rows += _rows(name, make, folder, loaded, given, ours)
    for start, tower in loaded.towers.items():
        for rule, holds in check_rules(folder / start, tower):
            what = f"{start}{rule.reads}"
            verdict = "as gemb" if holds else f"{DIFFERENT}: {rule.server} {rule.otherwise}"
            rows.append(Row(f"{rule.server} (rule)", what, None, verdict))
    return rows


def agrees(rows: list[Row]) -> bool:
    """Whether no program's vectors differ; rules about programs that were not run do not count."""
    return not any(row.verdict == DIFFERENT for row in rows)


def _widths(model: Model) -> tuple[int, ...]:
    return tuple(dict.fromkeys((model.spec.dim, *model.spec.widths)))


def _cases(model: Model) -> list[Case]:
    """The prompts of both sides, and the folder's other named ones in front of documents."""
    own = [Case(side, side, getattr(model.processors, side).prompt(side)) for side in SIDES]
    settings = model.document.origin.settings
    others = {k: v for k, v in (settings.get("prompts") or {}).items() if k not in SIDES and v}
    return own + [Case(name, "document", prompt) for name, prompt in others.items()]


def _rows(name, make, folder: Path, model: Model, texts: list[str], ours: dict) -> list[Row]:
    try:
        encode: Encode = make(folder, model)
    except MissingExtra:
        return [Row(name, "", None, MISSING)]
    except NotForThis as reason:
        return [Row(name, "", None, f"not for this model: {reason}")]
    except UserError as error:
        return [Row(name, str(error), None, DIFFERENT)]
    except Exception as error:  # whatever the other program raises of a folder that it cannot read
        what = f"cannot read it ({type(error).__name__}: {error})"[:200]
        return [Row(name, what, None, DIFFERENT)]
    rows = []
    for (case, width), vectors in ours.items():
        try:
            theirs = encode(texts, case, width)
            found = Difference.between(vectors, theirs)
        except Exception as error:
            what = f"{case.name}, {width}: {type(error).__name__}: {error}"[:200]
            rows.append(Row(name, what, None, DIFFERENT))
            continue
        verdict = SAME if found.cosine >= LEAST else DIFFERENT
        rows.append(Row(name, f"prompt {case.name}, width {width}", found, verdict))
    return rows


def table(rows: list[Row]) -> str:
    """The rows as text, one per line."""
    cells = [("program", "compared", "least cosine", "largest difference", "verdict")]
    for row in rows:
        found = row.difference
        figures = (f"{found.cosine:.6f}", f"{found.largest:.1e}") if found else ("", "")
        cells.append((row.consumer, row.what, *figures, row.verdict))
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:-1]] + [0]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
