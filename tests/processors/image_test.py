"""Pictures to arrays: decoding, against pixels written down here and other libraries."""

import io

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.data.assembly import value_ids
from gemb.processors.image import CLIP, HALF, IMAGENET, METHODS, ImageProcessor
from gemb.structs import Image, Images

pytestmark = pytest.mark.extra("images")


@pytest.fixture(scope="module")
def photo():
    """[90, 120, 3] uint8 with edges and gradients."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:90, :120]
    waves = np.stack([np.sin(x / 5) + np.cos(y / 7), np.sin(x * y / 300), np.cos(x / 3)], -1)
    noisy = 120 + 60 * waves + random.normal(0, 12, (90, 120, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def seen(value, **settings):
    return ImageProcessor(**settings).pixels(Image(value))


def png(pixels, **options) -> bytes:
    import PIL.Image

    file = io.BytesIO()
    picture = pixels if hasattr(pixels, "save") else PIL.Image.fromarray(pixels)
    picture.save(file, "PNG", **options)
    return file.getvalue()


def exact(value, height, width):
    """The decoded pixels, without any resize."""
    return seen(value, height=height, width=width)


def test_a_path_bytes_an_array_and_a_pillow_image_are_the_same(photo, tmp_path):
    import PIL.Image

    (tmp_path / "a.png").write_bytes(png(photo))
    for value in (
        tmp_path / "a.png", str(tmp_path / "a.png"), png(photo), photo, PIL.Image.fromarray(photo)
    ):  # fmt: skip
        np.testing.assert_array_equal(exact(value, 90, 120), photo)


def test_values_are_scaled_and_normalised(photo):
    processor = ImageProcessor(90, 120, mean=IMAGENET[0], std=IMAGENET[1])
    made = processor.collate([*processor.prepare([Image(photo)], "document"), None], rows=3)
    assert isinstance(made, Images)
    expected = (photo / 255 - np.array(IMAGENET[0])) / np.array(IMAGENET[1])
    np.testing.assert_allclose(made.pixels[0], expected, atol=1e-6)
    assert made.pixels.dtype == np.float32
    assert made.pixels.shape == (3, 90, 120, 3)
    assert made.real.tolist() == [[True], [False], [False]]
    assert not made.pixels[1:].any()


def test_the_shortest_side_is_resized_and_the_middle_cut_out(photo):
    import PIL.Image

    made = seen(photo, height=32, width=32, resize="crop", shortest=40, method="bicubic")
    whole = PIL.Image.fromarray(photo).resize((53, 40), PIL.Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(made, np.asarray(whole)[4:36, 10:42])


@pytest.mark.parametrize("method", METHODS)
def test_squash_is_one_resize_by_the_named_method(photo, method):
    import PIL.Image

    made = seen(photo, height=24, width=40, method=method)
    resampling = getattr(PIL.Image.Resampling, method.upper())
    expected = PIL.Image.fromarray(photo).resize((40, 24), resampling)
    np.testing.assert_array_equal(made, np.asarray(expected))


def test_every_setting_is_in_the_identity():
    made = ImageProcessor()
    others = [
        ImageProcessor(**change)
        for change in (
            {"height": 225}, {"resize": "crop"}, {"method": "bilinear"}, {"scale": 1.0},
            {"mean": CLIP[0]}, {"std": CLIP[1]}, {"background": (0, 0, 0)},
        )
    ]  # fmt: skip
    assert made.identity() == ImageProcessor(mean=HALF[0]).identity()
    assert len({str(one.identity()) for one in [made, *others]}) == 1 + len(others)


def test_values_are_typed_and_compare_by_content(photo):
    assert Image("a.png") == Image("a.png") != Image("b.png")
    assert Image(photo) == Image(photo.copy()) != Image(photo[1:])
    assert Image(b"x") != Image("x")
    same, again, other = value_ids([Image(photo), Image(photo.copy()), Image(photo[::-1])])
    assert same == again != other
    with pytest.raises(UserError, match=r"values\[1\]: expected gemb.Image\(...\), got str"):
        ImageProcessor().prepare([Image(photo), "a.png"], "query")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 224, 224), np.uint8), "height, width"),
        (np.zeros((4, 4, 3), np.float32), "uint8 or uint16, got float32"),
        (np.zeros((0, 4, 3), np.uint8), "empty picture"),
        (b"", "empty file"),
        (b"not a picture", "not a picture that gemb reads"),
        ("nowhere/a.png", "nowhere/a.png: no such file"),
        ("https://example.org/a.png", "no such file"),
        ("/", "not a file"),
        ("a\0b.png", "cannot be read|no such file"),
        (7, "got int"),
    ],
)
def test_what_is_no_picture_is_one_line(value, message):
    with pytest.raises(UserError, match=message) as caught:
        seen(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"height": 0}, {"resize": "pad"}, {"method": "area"}, {"std": (1, 0, 1)},
        {"mean": (0.5,)}, {"resize": "crop", "shortest": 100},
    ],
)  # fmt: skip
def test_wrong_settings_are_named(settings):
    with pytest.raises(ValueError, match=next(reversed(settings))):
        ImageProcessor(**settings)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    import PIL.Image

    monkeypatch.setattr("gemb.processors.decoding.MAX_PIXELS", 1000)
    bomb = png(PIL.Image.new("1", (40, 40)))
    with pytest.raises(UserError, match="40 x 40 pixels exceed the limit of 1,000"):
        seen(bomb)


def test_explain_says_what_the_model_sees(photo, tmp_path):
    import PIL.Image

    file = tmp_path / "a.jpg"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(photo).save(file, exif=exif)
    processor = ImageProcessor(32, 32, resize="crop", method="bilinear")
    facts, picture = processor.explain(Image(file))
    assert facts["size"] == "120 x 90"
    assert facts["orientation"] == "6"
    assert facts["decoded"] == "90 x 120, red green blue"
    assert facts["resized"] == "to 32 x 42 by bilinear"
    assert facts["cropped"].startswith("32 x 32")
    np.testing.assert_array_equal(np.asarray(picture), processor.pixels(Image(file)))


@pytest.mark.peers("transformers", "torch")
@pytest.mark.parametrize(
    ("name", "options", "settings"),
    [
        ("CLIPImageProcessor", {}, {"resize": "crop", "mean": CLIP[0], "std": CLIP[1]}),
        (
            "CLIPImageProcessor",
            {"size": {"shortest_edge": 40}, "crop_size": {"height": 33, "width": 30}},
            {"height": 33, "width": 30, "resize": "crop", "shortest": 40, "mean": CLIP[0],
             "std": CLIP[1]},
        ),
        (
            "SiglipImageProcessor",
            {"image_mean": HALF[0], "image_std": HALF[1]},
            {"mean": HALF[0], "std": HALF[1]},
        ),
        (
            "SiglipImageProcessor",
            {"image_mean": HALF[0], "image_std": HALF[1], "resample": 2, "size": {"height": 48,
             "width": 64}},
            {"height": 48, "width": 64, "method": "bilinear"},
        ),
        ("ViTImageProcessor", {}, {"method": "bilinear"}),
        (
            "BitImageProcessor",  # DINOv2's
            {"size": {"shortest_edge": 256}, "image_mean": IMAGENET[0], "image_std": IMAGENET[1]},
            {"resize": "crop", "shortest": 256, "mean": IMAGENET[0], "std": IMAGENET[1]},
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_it_equals_transformers(photo, name, options, settings, turned):
    import PIL.Image
    import transformers

    pixels = photo.transpose(1, 0, 2) if turned else photo
    theirs = getattr(transformers, f"{name}Pil")(**options)
    expected = theirs(PIL.Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
    processor = ImageProcessor(**settings)
    made = processor.collate(processor.prepare([Image(np.ascontiguousarray(pixels))], "document"))
    np.testing.assert_array_equal(made.pixels[0], expected.transpose(1, 2, 0))
    if not turned:
        again = getattr(transformers, f"{processor.config()['image_processor_type']}Pil")
        again = again(**processor.config())(PIL.Image.fromarray(pixels), return_tensors="np")
        np.testing.assert_array_equal(again["pixel_values"][0], expected)
