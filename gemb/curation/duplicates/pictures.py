"""Near-duplicate pictures: hashes and embeddings propose, the embedding decides."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gemb.curation.chunks import write_rows
from gemb.curation.duplicates.union import groups
from gemb.data.sources.picture_corpus import PictureCorpus
from gemb.files import write_json
from gemb.inference.embedder import Embedder
from gemb.inference.picture_search import encode_pictures
from gemb.processors.decoding import decode
from gemb.processors.hashes import near_hashes, perceptual_hash
from gemb.processors.thumbnails import data_uri
from gemb.reports.pictures_page import write_pairs
from gemb.structs import Image

_BLOCK = 512
_SHOWN = 50


@dataclasses.dataclass(frozen=True)
class PictureLikeness:
    """When two pictures are near-duplicates; the defaults are for photos and EfficientNet-Lite0.

    Attributes:
        similarity: least cosine.
        hash_bits: pictures whose hashes differ in fewer bits are near-duplicates too,
        floor: if their cosine is at least this.
        middle: share of the sides of a second view of each picture, its middle, which is compared
            with whole pictures, so that a picture is found in a larger one; 1 for none.
    """

    similarity: float = 0.64
    hash_bits: int = 16
    floor: float = 0.3
    middle: float = 0.75


class PicturePairs(NamedTuple):
    """Pairs of near-duplicates.

    Attributes:
        edges: [pairs, 2] rows, the smaller first.
        cosines: [pairs], the highest between a whole picture and a view of the other.
        by_hash: [pairs] bool, whether the hashes are near too.
    """

    edges: np.ndarray
    cosines: np.ndarray
    by_hash: np.ndarray


def encode_views(
    embedder: Embedder, images: Sequence[Image], likeness: PictureLikeness
) -> np.ndarray:
    """[views, pictures, dim] float32 of unit length: whole pictures, and their middles if wanted.

    Raises:
        UserError: for a picture that cannot be read.
    """
    views = [encode_pictures(embedder, images, progress="pictures")]
    if likeness.middle < 1:
        middles = [Middle(image, likeness.middle) for image in images]
        views.append(encode_pictures(embedder, middles, progress="middles"))
    made = np.stack(views)
    return made / np.maximum(np.linalg.norm(made, axis=2, keepdims=True), 1e-12)


class Middle(Image):
    """The middle of a picture, cut out when it is read.

    Args:
        whole: the picture.
        share: of its sides.
    """

    __slots__ = ("share", "whole")

    def __init__(self, whole: Image, share: float):
        self.whole, self.share = whole, share

    @property
    def source(self):
        """The middle, a Pillow image."""
        picture = decode(self.whole).picture
        left, top = (round(side * (1 - self.share) / 2) for side in picture.size)
        return picture.crop((left, top, picture.width - left, picture.height - top))


def picture_pairs(views: np.ndarray, hashes: list[int], likeness: PictureLikeness) -> PicturePairs:
    """The pairs of near-duplicates among pictures.

    Args:
        views: [views, pictures, dim] float32 of unit length, whole pictures first. A whole picture
            is compared with every view of another.
        hashes: of `perceptual_hash`.
        likeness: when two are near-duplicates.
    """
    whole = views[0]
    found = [np.zeros((0, 2), np.int64)]
    for view in views:
        for start in range(0, len(whole), _BLOCK):
            scores = whole[start : start + _BLOCK] @ view.T
            left, right = np.nonzero(scores >= likeness.similarity)
            edges = np.sort(np.stack([left + start, right], 1), axis=1)
            found.append(edges[edges[:, 0] < edges[:, 1]])
    near = near_hashes(hashes, likeness.hash_bits)
    edges = np.unique(np.concatenate([*found, near]), axis=0)
    cosines = np.max([
        np.einsum("nd,nd->n", whole[edges[:, one]], view[edges[:, 1 - one]])
        for view in views for one in (0, 1)
    ], axis=0)  # fmt: skip
    by_hash = np.isin(edges @ [len(whole), 1], near @ [len(whole), 1])
    kept = (cosines >= likeness.similarity) | (by_hash & (cosines >= likeness.floor))
    return PicturePairs(edges[kept], cosines[kept], by_hash[kept])


def deduplicate_pictures(
    corpus: PictureCorpus,
    embedder: Embedder,
    output: str | Path,
    likeness: PictureLikeness = PictureLikeness(),
    *,
    about: dict | None = None,
) -> dict:
    """Writes kept.jsonl, clusters.jsonl, results.json, and report.html with a list of pairs.

    Args:
        corpus: the pictures.
        embedder: a model of pictures, such as efficientnet-lite0.
        output: the folder to write into.
        likeness: when two are near-duplicates.
        about: what to name in results.json.

    Returns:
        The content of results.json.

    Raises:
        UserError: for a picture that cannot be read, or a place that cannot be written.
    """
    output, rows = Path(output), range(len(corpus))
    images = [corpus.media(row) for row in rows]
    views = encode_views(embedder, images, likeness)
    hashes = [perceptual_hash(image) for image in tqdm(images, "hashes", unit="picture")]
    pairs = picture_pairs(views, hashes, likeness)
    number = groups(len(corpus), pairs.edges)
    clusters: dict[int, list[int]] = {}
    for row, first in enumerate(number.tolist()):
        clusters.setdefault(first, []).append(row)

    def named(row: int) -> dict:
        return {"name": corpus.name(row), "caption": corpus.caption(row)}

    write_rows(output / "kept.jsonl", map(named, clusters))
    several = (members for members in clusters.values() if len(members) > 1)
    rows_of = (
        {"kept": named(first), "removed": [named(row) for row in others]}
        for first, *others in several
    )
    write_rows(output / "clusters.jsonl", rows_of)
    counts = {"pictures": len(corpus), "pairs": len(pairs.edges), "kept": len(clusters)}
    results = {"settings": (about or {}) | dataclasses.asdict(likeness), "counts": counts}
    write_json(output / "results.json", results)
    _write_report(output / "report.html", corpus, pairs, counts)
    return results


def _write_report(path: Path, corpus: PictureCorpus, pairs: PicturePairs, counts: dict) -> None:
    """The pairs with the lowest cosines first: those are to be looked at."""

    def shown(row: int, remark: str) -> tuple[str, str, str]:
        return data_uri(corpus.media(row)), corpus.name(row), remark

    order = np.argsort(pairs.cosines, kind="stable")[:_SHOWN]
    listed = []
    for place in order.tolist():
        left, right = pairs.edges[place].tolist()
        remark = f"cosine {pairs.cosines[place]:.3f}" + (
            ", near hash" if pairs.by_hash[place] else ""
        )
        listed.append((shown(left, ""), shown(right, remark)))
    about = (
        f"{counts['pairs']:,} pairs among {counts['pictures']:,} pictures; {counts['kept']:,} are "
        f"kept. The {len(listed)} pairs that are least alike come first."
    )
    write_pairs(path, "Near-duplicate pictures", about, listed)
