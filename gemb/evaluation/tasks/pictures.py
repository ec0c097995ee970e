"""Texts and pictures or videos: recall both ways, classes without training, nearest neighbours.

All read a folder with captions, as `gemb harvest-pictures` writes it. Captions are encoded as
queries, pictures and videos as documents.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from gemb import checks
from gemb.checks import UserError
from gemb.data.preprocess.texts import texts_of
from gemb.data.sources.pictures import Captioned
from gemb.evaluation.tasks.task_type import Data, Measured, Source, TaskType, every_row, spaced
from gemb.processors.thumbnails import data_uri

CUTS = (1, 5, 10)
NEIGHBOURS = 5
# CLIP's seven templates that do best on ImageNet together.
TEMPLATES = (
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.",
    "a {} in a video game.", "art of the {}.", "a photo of the small {}.",
)  # fmt: skip
_BLOCK = 512
_SHOWN, _HITS, _SIDE = 6, 4, 96  # captions, pictures and pixels of a report's examples


def evaluate_pictures(
    captions: np.ndarray,
    pictures: np.ndarray,
    positives: np.ndarray,
    texts: Sequence[str] | None = None,
    kind: str = "image",
) -> dict[str, float]:
    """Recall of pictures by captions and of captions by pictures.

    Args:
        captions: [captions, dim] float32, of unit length for cosine.
        pictures: [pictures, dim] float32, likewise.
        positives: [captions, pictures] bool, which picture a caption is of.
        texts: of the captions; pictures look among the different ones. Default: all differ.
        kind: "image" or "video", in the names of figures.

    Returns:
        "text_to_image_recall@k", the share of captions with one of their pictures among the first
        k; "image_to_text_recall@k", likewise; and "modality_gap", the distance between the mean
        vectors of both. Of equal scores the first is taken.

    Raises:
        ValueError: for shapes that do not match.

    Example:
        >>> rows = np.eye(12, dtype=np.float32)
        >>> found = evaluate_pictures(rows, rows, rows > 0)
        >>> found["text_to_image_recall@1"], found["modality_gap"]
        (1.0, 0.0)

    Reference: Karpathy and Fei-Fei, 2015, arXiv 1412.2306 (recall); Liang et al., Mind the Gap,
        2022, arXiv 2203.02053.
    """
    items = _recalls(captions, pictures, positives, texts, kind)
    return {name: float(np.mean(values)) for name, values in items.items()} | {
        "modality_gap": _gap(captions, pictures)
    }


def _recalls(captions, pictures, positives, texts, kind: str) -> dict[str, np.ndarray]:
    checks.check_shape("positives", positives, (len(captions), len(pictures)))
    first = {text: row for row, text in reversed(list(enumerate(texts or range(len(captions)))))}
    distinct = np.array(sorted(first.values()))
    found = {}
    sides = ((f"text_to_{kind}", captions, pictures, positives),)
    sides += ((f"{kind}_to_text", pictures, captions[distinct], positives[distinct].T),)
    for name, queries, documents, right in sides:
        ranks = _ranks(queries, documents, right)
        found |= {f"{name}_recall@{cut}": (ranks < cut).astype(np.float64) for cut in CUTS}
    return found


def _ranks(queries, documents, right) -> np.ndarray:
    """[queries] the place of the best right document, from 0."""
    ranks = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _BLOCK):
        scores = queries[start : start + _BLOCK] @ documents.T
        chosen = right[start : start + _BLOCK]
        best = np.where(chosen, scores, -np.inf).argmax(1)
        own = np.take_along_axis(scores, best[:, None], 1)
        before = (scores > own) | ((scores == own) & (np.arange(len(documents)) < best[:, None]))
        ranks[start : start + _BLOCK] = (before & ~chosen).sum(1)
    return ranks


def _gap(captions, pictures) -> float:
    return float(np.linalg.norm(captions.mean(0) - pictures.mean(0)))


def _read(source: Source, kind: str = "image") -> Data:
    pictures = _pictures(source, source.split, kind)
    captions, owners, languages = [], [], {}
    for row, record in enumerate(pictures):
        for text in texts_of(record, "captions"):
            captions.append(text)
            owners.append(row)
        if "labels" in source.columns:
            for language, text in (record.get(source.columns["labels"]) or {}).items():
                languages.setdefault(language, []).append([text, row])
    return {
        "folder": str(source.files["folder"]),
        "rows": [record["row"] for record in pictures],
        "content": [record["content"] for record in pictures],
        "captions": captions,
        "owners": owners,
        "languages": {k: v for k, v in sorted(languages.items()) if 2 * len(v) > len(pictures)},
    }


def _pictures(source: Source, split: str, kind: str = "image") -> list[dict]:
    """The records of a split, with their rows and a digest of each picture or video."""
    found = Captioned(source.files["folder"], {"split": split}, "", kind)
    made = []
    for row in range(len(found)):
        try:
            record = found[row]
            texts_of(record, "captions")
        except (ValueError, KeyError) as error:
            raise UserError(f"{found.where(row)}: {error}") from None
        made.append(record | {"row": found.row(row), "content": record[kind].content().hex()})
    return made


def _images(data: Data, rows: Sequence[int], kind: str = "image") -> list:
    whole = Captioned(data["folder"], {}, "", kind)
    return [whole.media(row) for row in rows]


def _texts(data: Data, kind: str = "image") -> dict:
    roles = {
        "captions": (data["captions"], "query"),
        "images": (_images(data, data["rows"], kind), "document"),
    }
    for language, rows in data["languages"].items():
        roles[f"captions_{language}"] = ([text for text, _ in rows], "query")
    return roles


def _positives(texts: Sequence[str], owners: Sequence[int], pictures: int) -> np.ndarray:
    """[texts, pictures] bool: a picture is right for all texts that are equal to one of its own."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    own = np.zeros((len(numbers), pictures), bool)
    for text, owner in zip(texts, owners, strict=True):
        own[numbers[text], owner] = True
    return own[[numbers[text] for text in texts]]


def _measure(vectors: Mapping[str, np.ndarray], data: Data, kind: str = "image") -> Measured:
    images = vectors["images"]
    right = _positives(data["captions"], data["owners"], len(images))
    items = _recalls(vectors["captions"], images, right, data["captions"], kind)
    figures = {name: float(values.mean()) for name, values in items.items()}
    figures["modality_gap"] = _gap(vectors["captions"], images)
    for language, rows in data["languages"].items():
        texts, owners = zip(*rows, strict=True)
        own = _positives(texts, owners, len(images))
        ranks = _ranks(vectors[f"captions_{language}"], images, own)
        figures[f"text_to_{kind}_recall@10_{language}"] = float((ranks < 10).mean())
    return Measured(figures, items, {"pictures": _examples(vectors, data, right, kind)})


def _examples(
    vectors: Mapping[str, np.ndarray], data: Data, right: np.ndarray, kind: str
) -> list[dict]:
    """Some captions, and what they find: {"caption", "found": [[src, right]]}."""
    shown = []
    for row in spaced(len(data["captions"]), _SHOWN):
        scores = vectors["images"] @ vectors["captions"][row]
        best = np.argsort(-scores, kind="stable")[:_HITS]
        images = _images(data, [data["rows"][place] for place in best], kind)
        found = [
            [data_uri(image, _SIDE), bool(right[row, place])]
            for image, place in zip(images, best, strict=True)
        ]
        shown.append({"caption": data["captions"][row], "found": found})
    return shown


def _sample(data: Data, limit: int) -> Data:
    """Fewer pictures, with all of their captions."""
    kept = every_row({"rows": data["rows"], "place": list(range(len(data["rows"])))}, limit)
    new = {old: place for place, old in enumerate(kept["place"])}
    captions = [
        (t, new[o]) for t, o in zip(data["captions"], data["owners"], strict=True) if o in new
    ]
    return data | {
        "rows": kept["rows"],
        "content": [data["content"][place] for place in kept["place"]],
        "captions": [text for text, _ in captions],
        "owners": [owner for _, owner in captions],
        "languages": {
            language: [[text, new[owner]] for text, owner in rows if owner in new]
            for language, rows in data["languages"].items()
        },
    }


def _recall_type(kind: str) -> TaskType:
    ways = (f"text_to_{kind}", f"{kind}_to_text")
    return TaskType(
        mains=tuple(f"{way}_recall@{cut}" for way in ways for cut in (10, 1, 5)),
        files=("folder",),
        columns={},
        read=functools.partial(_read, kind=kind),
        texts=functools.partial(_texts, kind=kind),
        measure=functools.partial(_measure, kind=kind),
        sample=_sample,
        optional=("labels",),
    )


TASK_TYPE, VIDEOS_TYPE = _recall_type("image"), _recall_type("video")


def evaluate_picture_classes(
    pictures: np.ndarray, labels: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """[pictures] 1.0 where the nearest class is right.

    Args:
        pictures: [pictures, dim] float32.
        labels: [pictures] integers.
        classes: [classes, dim] float32, the mean of unit vectors over the templates.
    """
    lengths = np.maximum(np.linalg.norm(classes, axis=1, keepdims=True), 1e-12)
    return ((pictures @ (classes / lengths).T).argmax(1) == labels).astype(np.float64)


def _read_classes(source: Source) -> Data:
    column = source.columns["label"]
    test, train = _pictures(source, source.split), []
    if source.split != "train":
        with_train = Captioned(source.files["folder"], {}, "")
        if any(with_train[row].get("split") == "train" for row in range(len(with_train))):
            train = _pictures(source, "train")
    for record in (*test, *train):
        if not isinstance(record.get(column), str):
            raise UserError(
                f"{source.files['folder']}: the column {column!r} is missing or no text"
            )
    names = sorted({_canonical(record[column]) for record in test})
    train = [record for record in train if _canonical(record[column]) in names]
    return {
        "folder": str(source.files["folder"]),
        "rows": [record["row"] for record in test],
        "content": [record["content"] for record in (*test, *train)],
        "labels": [names.index(_canonical(record[column])) for record in test],
        "train_rows": [record["row"] for record in train],
        "train_labels": [names.index(_canonical(record[column])) for record in train],
        "classes": names,
    }


def _canonical(name: str) -> str:
    """Lower case, without punctuation, as big_vision's zero-shot evaluator."""
    return " ".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _class_texts(data: Data) -> dict:
    prompts = [template.format(name) for name in data["classes"] for template in TEMPLATES]
    roles = {
        "classes": (prompts, "query"),
        "images": (_images(data, data["rows"]), "document"),
    }
    if data["train_rows"]:
        roles["train"] = (_images(data, data["train_rows"]), "document")
    return roles


def _measure_classes(vectors: Mapping[str, np.ndarray], data: Data) -> Measured:
    images, labels = vectors["images"], np.array(data["labels"])
    prompts = vectors["classes"].reshape(len(data["classes"]), len(TEMPLATES), -1)
    items = {"zero_shot_accuracy": evaluate_picture_classes(images, labels, prompts.mean(1))}
    if "train" in vectors:
        near = np.argsort(-(images @ vectors["train"].T), axis=1, kind="stable")[:, :NEIGHBOURS]
        votes = np.array(data["train_labels"])[near]
        counts = np.stack([(votes == label).sum(1) for label in range(len(data["classes"]))], 1)
        items["knn_accuracy"] = (counts.argmax(1) == labels).astype(np.float64)
    else:
        items["knn_accuracy"] = np.zeros(len(images))
    return Measured({name: float(values.mean()) for name, values in items.items()}, items)


CLASSES_TYPE = TaskType(
    mains=("zero_shot_accuracy", "knn_accuracy"),
    files=("folder",),
    columns={"label": "group"},
    read=_read_classes,
    texts=_class_texts,
    measure=_measure_classes,
    sample=lambda data, limit: every_row(data, limit, ("rows", "labels")),
)
