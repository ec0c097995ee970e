"""The vision and video encoders: positions, masks, forms of the same network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb.models.encoders.video import VideoSpec
from gemb.models.encoders.vision import VisionSpec, bilinear, resized_positions, sincos
from gemb.models.execution import Execution
from gemb.models.functional import functional, initial_params
from gemb.models.model import Model, Tower
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.pretrained import adapt, saving
from gemb.processors.image import ImageProcessor
from gemb.processors.video import VideoProcessor
from gemb.structs import Clips, Images, Patches

STACK = StackSpec(2, 16, 2, 32, norm_place="pre", norm_epsilon=1e-6, final_norm=True)
RANDOM = np.random.default_rng(0)


def drawn(spec, seed=1):
    model = ModelSpec.of(spec)
    params = initial_params(model, jax.random.key(seed))
    keys = jax.random.split(jax.random.key(2), len(params))
    noise = {
        path: value + 0.1 * jax.random.normal(key, value.shape)
        for key, (path, value) in zip(keys, params.items(), strict=True)
    }
    return functional(model).document, noise


def pictures(rows=3, size=(16, 24)):
    pixels = RANDOM.normal(size=(rows, *size, 3)).astype(np.float32)
    return Images(pixels, np.ones(rows, bool))


def as_patches(images, patch, columns, extra=0, frame=0):
    """The same pictures as Patches, with padding behind."""
    batch, height, width, _ = images.pixels.shape
    rows = height // patch
    cut = images.pixels.reshape(batch, rows, patch, width // patch, patch, 3)
    values = cut.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)
    row, column = np.divmod(np.arange(rows * columns), columns)
    pad = ((0, 0), (0, extra))
    tiled = [np.tile(part.astype(np.int32), (batch, 1)) for part in (row, column, 0 * row + frame)]
    values = np.pad(values, (*pad, (0, 0)), constant_values=9.0)
    return Patches(
        values, *(np.pad(part, pad) for part in tiled), np.pad(np.ones(tiled[0].shape, bool), pad)
    )


@pytest.mark.long
@pytest.mark.parametrize("positions", ["learned", "sincos", "rotary", "none"])
def test_a_row_depends_on_no_other_and_empty_rows_are_zero(positions):
    spec = TowerSpec(VisionSpec((16, 24), 8, STACK, positions=positions, registers=2), "map")
    apply, params = drawn(spec)
    images = pictures()
    whole = apply.embed(params, images)
    alone = apply.embed(params, Images(images.pixels[1:2], np.ones(1, bool)))
    np.testing.assert_allclose(whole[1], alone[0], atol=1e-6)
    part = apply.embed(params, images._replace(mask=np.array([True, False, True])))
    np.testing.assert_allclose(part[jnp.array([0, 2])], whole[jnp.array([0, 2])], atol=1e-6)
    assert not np.any(part[1])


@pytest.mark.long
@pytest.mark.parametrize("positions", ["learned", "sincos", "rotary"])
def test_exchanged_patches_change_the_vector_by_positions_alone(positions):
    images = pictures(1)
    other = images._replace(pixels=np.roll(images.pixels, 8, axis=2))
    spec = TowerSpec(VisionSpec((16, 24), 8, STACK, positions=positions), "cls")
    apply, params = drawn(spec)
    assert np.abs(apply.embed(params, images) - apply.embed(params, other)).max() > 1e-3
    bare = dataclasses.replace(spec.encoder, positions="none")
    apply, params = drawn(dataclasses.replace(spec, encoder=bare))
    np.testing.assert_allclose(apply.embed(params, images), apply.embed(params, other), atol=1e-5)


@pytest.mark.long
def test_patches_of_a_flexible_encoder_are_the_pixels_of_a_fixed_one():
    fixed = VisionSpec((16, 24), 8, STACK, first=False)
    apply, params = drawn(TowerSpec(fixed, "map"))
    flexible = TowerSpec(dataclasses.replace(fixed, flexible=True), "map")
    same = functional(ModelSpec.of(flexible)).document
    images = pictures()
    expected = apply.embed(params, images)
    found = same.embed(params, as_patches(images, 8, 3, extra=4))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.long
def test_a_flexible_encoder_reads_more_than_64_patches_a_side():
    spec = TowerSpec(VisionSpec((16, 16), 4, STACK, first=False, flexible=True), "map")
    apply, params = drawn(spec)
    long = as_patches(pictures(2, (4, 4 * 90)), 4, 90)
    assert np.isfinite(apply.embed(params, long)).all()


@pytest.mark.peers("torch")
@pytest.mark.parametrize("count", [1, 3, 4, 7, 90])
def test_flexible_positions_are_those_of_torch(count):
    import torch

    table = RANDOM.normal(size=(4, 5))
    places = jnp.arange(count)[None]
    made = bilinear(places, jnp.array([[count]]), 4)[0] @ table
    given = torch.tensor(np.repeat(table.T[None, :, :, None], 2, axis=3))
    options = {"mode": "bilinear", "align_corners": False, "antialias": True}
    expected = torch.nn.functional.interpolate(given, size=(count, 2), **options)[0, :, :, 0].T
    np.testing.assert_allclose(made, expected, atol=1e-5)


@pytest.mark.peers("torch")
@pytest.mark.parametrize("new", [(4, 5), (7, 3), (2, 9)])
def test_resized_positions_are_those_of_torch(new):
    import torch

    table = RANDOM.normal(size=(1 + 20, 6)).astype(np.float32)
    made = resized_positions(table, (4, 5), new, leading=1)
    given = torch.tensor(table[1:].reshape(4, 5, 6)).permute(2, 0, 1)[None]
    options = {"mode": "bicubic", "align_corners": False}
    expected = torch.nn.functional.interpolate(given, size=new, **options)[0].permute(1, 2, 0)
    np.testing.assert_array_equal(made[0], table[0])
    np.testing.assert_allclose(made[1:], expected.reshape(-1, 6), atol=1e-5)


def test_sines_and_cosines_are_the_formula():
    table = sincos(2, 3, 8)
    omega = [1.0, 1 / 10_000]
    for place, row in enumerate(table):
        y, x = divmod(place, 3)
        parts = [[f(c * w) for w in omega] for c in (x, y) for f in (np.sin, np.cos)]
        np.testing.assert_allclose(row, np.ravel(parts), atol=1e-6)


@pytest.mark.long
def test_looped_layers_and_bfloat16_give_the_same_vectors():
    apply, params = drawn(TowerSpec(VisionSpec((16, 24), 8, STACK, registers=1), "map"))
    expected = apply.embed(params, pictures())
    images = pictures()
    expected = apply.embed(params, images)
    looped = apply.embed(params, images, Execution(layers="scan"))
    np.testing.assert_allclose(looped, expected, atol=1e-5)
    rounded = apply.embed(params, images, Execution(dtype="bfloat16"))
    assert (np.sum(rounded * expected, axis=1) > 0.99).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 7}, "patch"), ({"positions": "absolute"}, "positions"),
        ({"flexible": True, "positions": "sincos"}, "flexible"),
        ({"positions": "sincos", "stack": StackSpec(1, 6, 2, 8)}, "sincos"),
        ({"positions": "rotary", "stack": StackSpec(1, 12, 2, 8)}, "rotary"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        VisionSpec(**{"size": (16, 16), "patch": 8, "stack": STACK} | change)


def clips(rows=2, frames=4):
    pixels = RANDOM.normal(size=(rows, frames, 16, 16, 3)).astype(np.float32)
    return Clips(pixels, np.ones((rows, frames), bool))


def film(time=None, pooling="mean"):
    frame = VisionSpec((16, 16), 8, dataclasses.replace(STACK, layers=1))
    return TowerSpec(VideoSpec(frame, "cls", 4, time), pooling)


@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_without_a_transformer_over_frames_a_clip_is_the_pool_of_its_frames(pooling):
    apply, params = drawn(film(pooling=pooling))
    made, given = apply.embed(params, clips()), clips()
    made = apply.embed(params, given)
    backwards = Clips(given.pixels[:, ::-1], given.mask)
    np.testing.assert_allclose(apply.embed(params, backwards), made, atol=1e-5)
    if pooling == "mean":
        image = functional(ModelSpec.of(TowerSpec(film().encoder.frame, "cls", normalize=False)))
        own = {p.replace("video/frame/", "image/"): v for p, v in params.items()}
        each = [
            image.document.embed(own, Images(given.pixels[:, k], given.mask[:, k]))
            for k in range(4)
        ]
        mean = np.mean(each, axis=0)
        np.testing.assert_allclose(
            made, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5
        )


@pytest.mark.long
def test_with_one_the_order_counts_and_masked_frames_do_not():
    apply, params = drawn(film(dataclasses.replace(STACK, layers=1)))
    given = clips()
    made = apply.embed(params, given)
    backwards = apply.embed(params, Clips(given.pixels[:, ::-1], given.mask))
    assert np.abs(backwards - made).max() > 1e-3
    mask = given.mask.copy()
    mask[:, 2:] = False
    shorter = given.pixels.copy()
    shorter[:, 2:] = 50.0
    np.testing.assert_allclose(
        apply.embed(params, Clips(shorter, mask)),
        apply.embed(params, Clips(given.pixels, mask)),
        atol=1e-6,
    )


@pytest.mark.extra("images")
@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_tower_is_saved_and_read_again(kind, tmp_path):
    encoder = VisionSpec((16, 16), 8, STACK, positions="rotary", registers=2)
    processor = ImageProcessor(16, 16, resize="crop", background=(1, 2, 3))
    spec = TowerSpec(encoder, "map", widths=(16, 4))
    if kind == "video":
        spec = film(dataclasses.replace(STACK, layers=1), "attention")
        processor = VideoProcessor(ImageProcessor(16, 16), 3)
    params = {path: np.asarray(value) for path, value in drawn(spec)[1].items()}
    model = Model.of(Tower(spec, params, processor))
    identity = saving.save(model, tmp_path / "model")
    again = adapt.load(str(tmp_path / "model"))
    assert again.spec == model.spec
    assert again.processors == model.processors
    assert saving.save(again, tmp_path / "again") == identity
