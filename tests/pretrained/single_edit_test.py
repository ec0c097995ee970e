"""One value of a model folder is changed: gemb follows its peer, or refuses, and never in silence.

The rule for each edit, where the peer is sentence-transformers with transformers in float32:
- gemb may refuse any edit, in one line.
- Where gemb loads the folder, its vectors equal the peer's.
- Where the peer overruns its positions, this holds for short texts: gemb cuts the others.
- Where the peer itself fails otherwise, the vectors have to be those of the folder before the edit:
  the key is one that vectors do not depend on, and the peer checks more of it than gemb.
"""

import collections
import json
import shutil

import jax
import numpy as np
import pytest
from edited_folders import MODELS, TEXTS, sample_edits, write_folder

from gemb import Embedder
from gemb.checks import UserError
from gemb.pretrained.adapt import load

pytestmark = pytest.mark.peers
SIDES = ("query", "document")
_SHORT = 40  # characters of texts that fit all position tables
_GOOD = ("equal", "refused", "harmless")


@pytest.fixture(scope="module", params=MODELS)
def folder(request, tmp_path_factory):
    """A folder of each family."""
    pytest.importorskip("sentence_transformers")
    made = tmp_path_factory.mktemp(request.param)
    write_folder(request.param, made)
    return made / "model"


@pytest.mark.long
def test_a_few_edits(folder, tmp_path):
    _check(folder, tmp_path, 15)


@pytest.mark.slow
def test_many_edits(folder, tmp_path):
    counts = _check(folder, tmp_path, 250)
    print(folder.parent.name, dict(counts))


def _check(folder, tmp_path, count: int) -> collections.Counter:
    """Makes edits one after the other in a copy, and counts what came of each."""
    made = tmp_path / "edited"
    shutil.copytree(folder, made)
    before = load(str(made))
    vectors = _ours(before)
    _assert_equal(vectors, _theirs(made), "the folder before any edit")
    counts, faults = collections.Counter(), []
    for edit in sample_edits(made, count, folder.parent.name[:4]):
        file = made / edit.file
        text = file.read_text()
        file.write_text(json.dumps(edit.made(json.loads(text))))
        try:
            outcome = _outcome(made, before, vectors)
        except Exception as error:  # a traceback is what is looked for
            outcome = f"{type(error).__name__}: {error}"
        counts[outcome if outcome in _GOOD else "other"] += 1
        if outcome not in _GOOD:
            faults.append(f"{edit}: {outcome}"[:400])
        file.write_text(text)
    assert not faults, "\n".join([f"{len(faults)} of {dict(counts)}", *faults])
    return counts


def _outcome(folder, before, vectors: dict) -> str:
    """What came of an edit: one of _GOOD, or what is wrong."""
    try:
        model = load(str(folder))
    except UserError as error:
        return "refused" if "\n" not in str(error) else f"an error of several lines: {error}"
    theirs, same = _theirs(folder), _is_same(model, before)
    if "out of bounds" in str(theirs):  # it overruns its positions, where gemb cuts texts
        rows = [row for row, text in enumerate(TEXTS) if len(text) < _SHORT]
        theirs = _theirs(folder, [TEXTS[row] for row in rows])
        vectors = {side: made[rows] for side, made in (vectors if same else _ours(model)).items()}
        same = not isinstance(theirs, Exception) or same
    if isinstance(theirs, Exception):
        return "harmless" if same else f"loads, and the peer fails ({theirs})"
    try:
        _assert_equal(vectors if same else _ours(model), theirs, "vectors")
    except AssertionError as error:
        return " ".join(str(error).split())
    return "equal"


def _is_same(model, before) -> bool:
    one, other = model.document, before.document
    return (
        (one.spec, one.processor) == (other.spec, other.processor)
        and one.params.keys() == other.params.keys()
        and all(np.array_equal(one.params[path], other.params[path]) for path in one.params)
    )


def _ours(model) -> dict:
    with jax.disable_jit():
        embedder = Embedder(model)
        return {side: embedder.encode(TEXTS, kind=side) for side in SIDES}


def _theirs(folder, texts=TEXTS) -> dict | Exception:
    """The peer's vectors, or why it gives none."""
    from sentence_transformers import SentenceTransformer

    options = {"dtype": "float32"}
    if "gemma" in str(folder):
        options["attn_implementation"] = "eager"  # the others leave the cap of scores out
    try:
        model = SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs=options
        )
        made = {side: getattr(model, f"encode_{side}")(texts) for side in SIDES}
    except Exception as error:
        return error
    if not all(np.isfinite(vectors).all() for vectors in made.values()):
        return ValueError("the peer's vectors are not finite")
    return made


def _assert_equal(ours: dict, theirs, what: str) -> None:
    assert not isinstance(theirs, Exception), f"{what}: the peer fails: {theirs!r}"
    for side in SIDES:
        np.testing.assert_allclose(ours[side], theirs[side], atol=1e-4, err_msg=f"{what}, {side}")
