"""Frames by their time: files made by PyAV and Pillow, whose frames are known by their grey."""

import io
import struct
from fractions import Fraction

import numpy as np
import pytest
from picture_files import photo, saved

from gemb.checks import UserError
from gemb.processors.image import ImageProcessor
from gemb.processors.video import VideoProcessor, chosen, frames_of
from gemb.structs import Clips, Image, Video

pytestmark = pytest.mark.extra("video")
WHITE = (255, 255, 255)


def grey(level, height=32, width=48):
    return np.full((height, width, 3), level, np.uint8)


def film(times, levels=None, form="mp4", codec="libx264", pictures=None, **options) -> bytes:
    """A video whose frame k has the grey 10 k and appears at times[k] milliseconds."""
    import av

    file = io.BytesIO()
    levels = [10 * k for k in range(len(times))] if levels is None else levels
    pictures = [grey(level) for level in levels] if pictures is None else pictures
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=1000)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"crf": "5"} | options if codec == "libx264" else options
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def animation(levels, durations, form="GIF", **options) -> bytes:
    import PIL.Image

    frames = [PIL.Image.fromarray(grey(level)) for level in levels]
    more = {"save_all": True, "append_images": frames[1:], "duration": durations}
    return saved(frames[0], form, **more, **options)


def seen(content, count):
    """The numbers of the frames, by their grey, and their times."""
    found = frames_of(Video(content), count, WHITE)
    levels = [np.asarray(frame.picture).mean() / 10 for frame in found]
    assert all(abs(level - round(level)) < 0.35 for level in levels), levels
    return [round(level) for level in levels], [frame.time for frame in found]


def test_frames_are_those_shown_at_the_middle_of_equal_parts():
    for starts, end, count in (([0, 1, 2, 3, 4, 5], 6, 3), ([0, 5, 5.5, 6], 10, 4), ([2, 3], 9, 5)):
        times = [starts[0] + (k + 0.5) * (end - starts[0]) / count for k in range(count)]
        expected = sorted({max(i for i, s in enumerate(starts) if s <= time) for time in times})
        assert chosen(starts, end, count) == expected


@pytest.mark.parametrize("form", ["mp4", "matroska", "avi"])
def test_frames_of_a_steady_video(form):
    codec = "mpeg4" if form == "avi" else "libx264"
    content = film(
        range(0, 24 if form == "avi" else 960, 1 if form == "avi" else 40), form=form, codec=codec
    )
    numbers, times = seen(content, 4)
    assert numbers == [3, 9, 15, 21]
    if form != "avi":
        np.testing.assert_allclose(times, [0.12, 0.36, 0.6, 0.84], atol=1e-3)


def test_a_variable_rate_counts_by_time_and_not_by_number():
    times = [0, 10, 20, 30, 40, 500, 900]
    numbers, found = seen(film(times, form="matroska"), 3)
    end = 900 + 400  # the last frame lasts as long as the one before it
    assert numbers == chosen([0, 10, 20, 30, 40, 500, 900], end, 3) == [4, 5, 6]
    np.testing.assert_allclose(found, [0.04, 0.5, 0.9], atol=2e-3)


@pytest.mark.parametrize("gap", ["250", "4"])
def test_frames_between_and_across_key_frames_and_behind_b_frames(gap):
    content = film(range(0, 800, 40), g=gap, bf="3")
    assert seen(content, 20)[0] == list(range(20))
    assert seen(content, 5)[0] == [2, 6, 10, 14, 18]


def test_fewer_frames_than_asked_for_are_masked_and_not_repeated():
    processor = VideoProcessor(ImageProcessor(8, 8), 8)
    examples = processor.prepare([Video(film([0, 40, 80])), Image(grey(90))])
    clips = processor.collate([*examples, None])
    assert isinstance(clips, Clips)
    assert clips.pixels.shape == (3, 8, 8, 8, 3)
    assert clips.mask.sum(1).tolist() == [3, 1, 0]
    assert not clips.pixels[1, 1:].any()
    expected = np.full((8, 8, 3), (90 / 255 - 0.5) / 0.5)
    np.testing.assert_allclose(clips.pixels[1, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    ],
)
def test_the_rotation_of_a_phone_is_applied(matrix, turn):
    """The display matrix of an MP4's track header, written into the file by hand."""
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :24] = 250
    content = bytearray(film([0, 40], pictures=[stored, stored]))
    a, b, c, d = (number * 65536 for number in matrix)
    place = content.index(b"tkhd") + 4 + 40
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    picture = np.asarray(frames_of(Video(bytes(content)), 1, WHITE)[0].picture).astype(int)
    expected = turn(stored)
    assert picture.shape == expected.shape
    assert np.abs(picture[4::8, 4::8] - expected[4::8, 4::8]).max() < 25


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_counts_by_its_durations(form):
    options = {"lossless": True} if form == "WEBP" else {}
    content = animation([0, 10, 20, 30], [100, 100, 100, 700], form, **options)
    numbers, times = seen(content, 4)
    assert numbers == [1, 3]  # at .125, .375, .625 and .875 s
    np.testing.assert_allclose(times, [0.1, 0.3], atol=1e-6)


def test_a_list_of_frames_and_a_still_picture():
    frames = [grey(10 * k) for k in range(6)]
    assert seen(frames, 3)[0] == [1, 3, 5]
    still = frames_of(Video(saved_still()), 4, WHITE)
    np.testing.assert_array_equal(np.asarray(still[0].picture), photo())
    assert len(still) == 1


def saved_still() -> bytes:
    import PIL.Image

    return saved(PIL.Image.fromarray(photo()), "PNG")


def test_hostile_files_are_one_line(tmp_path):
    whole = film(range(0, 400, 40))
    (tmp_path / "a.mp4").write_bytes(b"nothing of the kind")
    for value in (
        b"", b"text", bytes(5000), whole[:200], whole[: len(whole) // 3], [], 7, "nowhere.mp4",
        str(tmp_path), str(tmp_path / "a.mp4"), b"GIF89a", [b"text"], b"RIFF1234AVI LIST",
    ):  # fmt: skip
        with pytest.raises(UserError) as caught:
            frames_of(Video(value), 4, WHITE)
        assert "\n" not in str(caught.value)
    random = np.random.default_rng(0)
    for _ in range(8):
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[random.integers(0, len(changed), 8)] = random.integers(0, 256, 8)
        try:
            found = frames_of(Video(changed.tobytes()), 4, WHITE)
        except UserError:
            continue
        assert found


def test_settings_are_in_the_identity_and_checked():
    made = VideoProcessor(ImageProcessor(8, 8), 4)
    assert made.identity() != VideoProcessor(ImageProcessor(8, 8), 5).identity()
    assert made.identity() != VideoProcessor(ImageProcessor(9, 9), 4).identity()
    with pytest.raises(ValueError, match="count"):
        VideoProcessor(count=0)
    with pytest.raises(UserError, match=r"expected gemb\.Video"):
        made.prepare(["a.mp4"])
