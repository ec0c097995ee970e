"""Documents of an index, encoded again at the start and every hour, against their stored vectors.

A device, a library or a precision that gives other vectors than those that were indexed makes every
search wrong without any error. The fixed texts that a model folder may hold are another matter:
`gemb.inference.canaries`.
"""

import numpy as np

from gemb.serving.http.web import log_line
from gemb.serving.retrieval import Step
from gemb.serving.state import State

COUNT, LEAST = 50, 0.999
EVERY = 3600.0  # seconds


def cosine(step: Step) -> float | None:
    """The lowest cosine of documents' vectors, as they are computed now and as they are stored.

    Args:
        step: a version. One text is encoded at a time, in a shape that is compiled.

    Returns:
        None where texts, vectors or the model are not at hand, or where vectors depend on more than
        their text.
    """
    if step.model is None or step.vectors is None or not step.corpus.texts or step.late:
        return None
    rows = np.unique(np.linspace(0, len(step.vectors) - 1, COUNT).astype(np.int64))
    model, tower, lowest = step.model, step.model.tower("document"), 1.0
    for row in rows.tolist():
        stored = np.asarray(step.vectors[row], np.float32)
        [example] = model.prepare([step.corpus.texts[row]], "document")
        if not example.size or not stored.any():
            continue
        output = tower.dispatch([example], tower.shapes.length(example.size), 1)
        made = tower.read(output)[0, : len(stored)]
        product = float(made @ stored / (np.linalg.norm(made) * np.linalg.norm(stored)))
        lowest = min(lowest, product if np.isfinite(product) else -1.0)
    return lowest


def check(state: State) -> bool:
    """Checks every loaded version; one whose vectors differ makes the server unready.

    Returns:
        Whether all agree.
    """
    unfit = {}
    for name, chain in state.chains.items():
        for step in chain.steps:
            found = cosine(step)
            if found is None:
                continue
            state.metrics.canary.labels(step.model.name).set(found)
            if found < LEAST:
                where = f"{name} {step.version or ''}".strip()
                unfit[where] = f"cosine {found:.4f}"
                log_line({"event": "stored vectors differ", "index": where, "cosine": found})
    state.unfit = unfit
    return not unfit
