"""gemb dedup on changed copies of photos: which copies are found, and which other pairs are.

    python benchmarks/picture_duplicates.py --folder DIR --count 334

DIR is a folder of captioned photos (`gemb harvest-pictures`); so many of them are taken, evenly
spaced. Each is changed in nine ways. A copy is found if it and its photo are a pair by the rule of
`gemb dedup` at its default settings. `false pairs` are pairs of two different photos, and of a
photo and a changed copy of another one; `nearest false pairs` names those with the highest cosines.
Prints one JSON line. Extras: images.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps

from gemb.curation.duplicates.alignment import outline
from gemb.curation.duplicates.pictures import PictureLikeness, picture_pairs
from gemb.data.sources.picture_corpus import PictureCorpus
from gemb.inference.embedder import Embedder
from gemb.inference.picture_search import encode_pictures
from gemb.pretrained.fetch import ensure
from gemb.processors.decoding import decode
from gemb.processors.hashes import perceptual_hash
from gemb.structs import Image


def quarter(photo):
    """A quarter of each side."""
    return photo.resize([max(1, side // 4) for side in photo.size], Pillow.Resampling.BICUBIC)


def middle(share: float):
    """The middle of the picture, `share` of each side."""

    def changed(photo):
        width, height = photo.size
        left, top = width * (1 - share) / 2, height * (1 - share) / 2
        return photo.crop(tuple(map(round, (left, top, width - left, height - top))))

    return changed


def jpeg(photo):
    """Compressed with quality 20 and read again."""
    import io

    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=20)
    return Pillow.open(buffer).convert("RGB")


def brighter(photo):
    """Brightness and contrast times 1.25."""
    return ImageEnhance.Contrast(ImageEnhance.Brightness(photo).enhance(1.25)).enhance(1.25)


def with_bar(photo):
    """A black bar below, a seventh of the height."""
    made = Pillow.new("RGB", (photo.width, photo.height + photo.height // 7))
    made.paste(photo)
    return made


CHANGES = {
    "JPEG of quality 20": jpeg,
    "a quarter of the size": quarter,
    "middle 90 % of the sides": middle(0.9),
    "middle 70 % of the sides": middle(0.7),
    "mirrored": ImageOps.mirror,
    "brightness and contrast times 1.25": brighter,
    "grey": lambda photo: photo.convert("L").convert("RGB"),
    "turned by 5 degrees": lambda photo: photo.rotate(
        5, Pillow.Resampling.BICUBIC, fillcolor=(128, 128, 128)
    ),
    "with a bar below": with_bar,
}


def prepared(photos: list, embedder: Embedder, keep: Path | None):
    """(vectors, hashes, outlines) of pictures; vectors are kept in a file, if one is given."""
    images = [Image(photo) for photo in photos]
    if keep and keep.exists():
        vectors = np.load(keep)
    else:
        vectors = encode_pictures(embedder, images, progress="pictures")
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if keep:
            np.save(keep, vectors)
    hashes = [perceptual_hash(image) for image in images]
    return vectors, hashes, [outline(image) for image in images]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--count", type=int, default=334)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--keep", default="", help="folder to keep vectors in")
    parser.add_argument("--changes", nargs="*", default=list(CHANGES), help="default all nine")
    options = parser.parse_args()
    corpus = PictureCorpus(options.folder)
    rows = np.linspace(0, len(corpus) - 1, options.count).round().astype(int).tolist()
    photos = [decode(corpus.media(row)).picture for row in rows]
    embedder, likeness = Embedder.load(ensure(options.model)), PictureLikeness()
    keep = Path(options.keep) if options.keep else None
    if keep:
        keep.mkdir(exist_ok=True, parents=True)

    def of(name: str, pictures: list):
        file = keep / f"{name.replace(' ', '_')}.npy" if keep else None
        return prepared(pictures, embedder, file)

    own, count = of("photos", photos), len(photos)
    pairs = picture_pairs(*own, likeness)
    real = [(corpus.name(rows[a]), corpus.name(rows[b])) for a, b in pairs.edges.tolist()]
    table, wrong, tried = [], [], 0
    for name in options.changes:
        copies = of(name, [CHANGES[name](photo) for photo in photos])
        both = [np.concatenate([own[0], copies[0]]), own[1] + copies[1], own[2] + copies[2]]
        found = picture_pairs(*both, likeness)
        cross = (found.edges[:, 0] < count) & (found.edges[:, 1] >= count)
        left, right = found.edges[cross].T
        same = left == right - count
        hashed = found.by_hash[cross] & same
        judged = (found.cosines[cross] >= likeness.similarity) & same
        table.append([name, judged.sum() / count, hashed.sum() / count, same.sum() / count])
        tried += count * (count - 1)
        wrong += [
            (round(float(cosine), 3), name, corpus.name(rows[a]), corpus.name(rows[b - count]))
            for a, b, cosine in zip(
                left[~same], right[~same], found.cosines[cross][~same], strict=True
            )
        ]
    print(json.dumps({
        "photos": count, "likeness": str(likeness), "rows": table,
        "pairs among the photos": real, "of": count * (count - 1) // 2,
        "false pairs with a copy": len(wrong), "tried": tried,
        "nearest false pairs": sorted(wrong, reverse=True)[:20],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
