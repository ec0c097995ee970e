"""Small folders of pictures, drawn for tests."""

import io
import json
import zipfile

import numpy as np

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 40, 220),
    "grey": (90, 90, 90),
}
PLACES = ("left", "right", "top", "bottom")


def drawn(colour, place, size=24, noise=0):
    """[size, size, 3] uint8: a bar of a colour at a side, on white."""
    pixels = np.full((size, size, 3), 255, np.uint8)
    half = size // 2
    rows = {"top": slice(0, half), "bottom": slice(half, size)}.get(place, slice(None))
    columns = {"left": slice(0, half), "right": slice(half, size)}.get(place, slice(None))
    pixels[rows, columns] = COLOURS[colour]
    change = np.random.default_rng(noise).integers(-20, 20, pixels.shape) if noise else 0
    return np.clip(pixels.astype(int) + change, 0, 255).astype(np.uint8)


def encoded(pixels, kind="PNG", **options):
    """The bytes of a picture file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def captioned_folder(folder, copies=2):
    """A folder of `gemb harvest-pictures`: 16 kinds of drawing, the last copy of each for tests."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    with zipfile.ZipFile(folder / "images.zip", "w") as images:
        for copy in range(copies):
            for colour in COLOURS:
                for place in PLACES:
                    name = f"{colour}-{place}-{copy}.png"
                    images.writestr(name, encoded(drawn(colour, place, noise=copy + 1)))
                    caption = f"{colour} {place}"
                    rows.append({
                        "id": name, "file": name, "caption": caption,
                        "captions": [caption, f"a bar: {caption}"], "group": colour,
                        "labels": {"de": f"Balken {caption}"},
                        "split": "test" if copy == copies - 1 else "train",
                    })  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "captions.jsonl").write_text(text)
    return folder
