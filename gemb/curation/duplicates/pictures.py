"""Near-duplicate pictures: hashes and embeddings propose, the pictures' alignment decides."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gemb.curation.chunks import write_rows
from gemb.curation.duplicates.alignment import alignment, outline
from gemb.curation.duplicates.union import groups
from gemb.data.sources.picture_corpus import PictureCorpus
from gemb.files import write_json
from gemb.inference.embedder import Embedder
from gemb.inference.picture_search import encode_pictures
from gemb.processors.hashes import near_hashes, perceptual_hash
from gemb.processors.thumbnails import data_uri
from gemb.reports.pictures_page import write_pairs

_BLOCK = 512
_SHOWN = 50


@dataclasses.dataclass(frozen=True)
class PictureLikeness:
    """When two pictures are near-duplicates; the defaults are for photos and EfficientNet-Lite0.

    Attributes:
        similarity: pictures with at least this cosine are looked at,
        hash_bits: and those whose hashes differ in fewer bits.
        alignment: of these the near-duplicates are those with at least this alignment, see
            `gemb.curation.duplicates.alignment`.
    """

    similarity: float = 0.55
    hash_bits: int = 16
    alignment: float = 0.94


class PicturePairs(NamedTuple):
    """Pairs of near-duplicates.

    Attributes:
        edges: [pairs, 2] rows, the smaller first.
        cosines: [pairs].
        by_hash: [pairs] bool, whether the hashes are near too.
        alignments: [pairs].
    """

    edges: np.ndarray
    cosines: np.ndarray
    by_hash: np.ndarray
    alignments: np.ndarray


def picture_pairs(
    vectors: np.ndarray, hashes: list[int], outlines: Sequence, likeness: PictureLikeness
) -> PicturePairs:
    """The pairs of near-duplicates among pictures.

    Args:
        vectors: [pictures, dim] float32 of unit length.
        hashes: of `perceptual_hash`.
        outlines: of `outline`.
        likeness: when two are near-duplicates.
    """
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(vectors), _BLOCK):
        scores = vectors[start : start + _BLOCK] @ vectors[start:].T
        left, right = np.nonzero(scores >= likeness.similarity)
        found.append((np.stack([left, right], 1) + start)[left < right])
    near = near_hashes(hashes, likeness.hash_bits)
    edges = np.unique(np.concatenate([*found, near]), axis=0)
    cosines = np.einsum("nd,nd->n", vectors[edges[:, 0]], vectors[edges[:, 1]])
    by_hash = np.isin(edges @ [len(vectors), 1], near @ [len(vectors), 1])
    shown = tqdm(edges.tolist(), "alignments", unit="pair", disable=len(edges) < _BLOCK)
    alignments = np.array([alignment(outlines[a], outlines[b]) for a, b in shown])
    kept = alignments >= likeness.alignment
    return PicturePairs(edges[kept], cosines[kept], by_hash[kept], alignments[kept])


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
    vectors = encode_pictures(embedder, images, progress="pictures")
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    hashes = [perceptual_hash(image) for image in tqdm(images, "hashes", unit="picture")]
    pairs = picture_pairs(vectors, hashes, [outline(image) for image in images], likeness)
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
    """The pairs with the lowest alignments first: those are to be looked at."""

    def shown(row: int, remark: str) -> tuple[str, str, str]:
        return data_uri(corpus.media(row)), corpus.name(row), remark

    order = np.argsort(pairs.alignments, kind="stable")[:_SHOWN]
    listed = []
    for place in order.tolist():
        left, right = pairs.edges[place].tolist()
        remark = f"alignment {pairs.alignments[place]:.3f}, cosine {pairs.cosines[place]:.3f}"
        remark += ", near hash" if pairs.by_hash[place] else ""
        listed.append((shown(left, ""), shown(right, remark)))
    about = (
        f"{counts['pairs']:,} pairs among {counts['pictures']:,} pictures; {counts['kept']:,} are "
        f"kept. The {len(listed)} pairs that are least alike come first."
    )
    write_pairs(path, "Near-duplicate pictures", about, listed)
