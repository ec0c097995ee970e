"""Videos and animations to Clips: frames by their time, then each as a picture.

Frame k of n is the one that is shown at t_k = (k + 1/2) d / n, where d is how long the video lasts.
Times and d come from the frames themselves, never from a rate or a count that the file declares. A
video with fewer frames than n has fewer: the rest is masked, nothing is repeated.
"""

import bisect
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from gemb.checks import UserError, check, needs
from gemb.processors.decoding import check_pixels, content_of, decode, open_picture, turned
from gemb.processors.image import ImageProcessor
from gemb.processors.png import check_whole
from gemb.processors.processor import Example, Unprompted
from gemb.structs import Clips, Image, Video

VERSION = "frames 1"  # raise it when a file would give other frames
_MAX_FRAMES = 1_000_000
_STILL = 0.1  # seconds of a frame of an animation that says 0, as in browsers
_ANIMATED = (b"GIF8", b"\x89PNG", b"RIFF")


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        picture: a Pillow image in mode RGB, upright.
        time: seconds from the start at which it appears.
    """

    picture: Any
    time: float


def chosen(starts: Sequence[float], end: float, count: int) -> list[int]:
    """The frames that are shown at (k + 1/2) d / count, each once.

    Args:
        starts: seconds at which frames appear, rising.
        end: when the last one ends.
        count: how many are wanted.

    Returns:
        Numbers of frames, rising.

    Example:
        >>> chosen([0.0, 1.0, 2.0, 3.0], 4.0, 2)
        [1, 3]
        >>> chosen([0.0, 3.0], 4.0, 8)
        [0, 1]
    """
    length = end - starts[0]
    times = [starts[0] + (k + 0.5) * length / count for k in range(count)]
    shown = {max(0, bisect.bisect_right(starts, time) - 1) for time in times}
    return sorted(shown)


def frames_of(
    video: Video, count: int, background: tuple[int, int, int], *, name: str = "video"
) -> list[Frame]:
    """Reads the frames of a video.

    Args:
        video: what to read.
        count: at most so many.
        background: the colour that transparent frames are composed on.
        name: what errors call it if it has no path.

    Raises:
        UserError: in one line, for anything that is no video or animation.
    """
    if not isinstance(video, Video):
        raise UserError(f"{name}: expected gemb.Video(...), got {type(video).__name__}")
    source = video.source
    if isinstance(source, list | tuple):
        if not source:
            raise UserError(f"{name}: a list without frames")
        rows = chosen(range(len(source)), len(source), count)
        given = [
            one if isinstance(one, Image) else Image(one) for one in map(source.__getitem__, rows)
        ]
        parts = zip(given, rows, strict=True)
        return [
            Frame(decode(one, background, name=f"{name}[{row}]").picture, float(row))
            for one, row in parts
        ]
    name = os.fsdecode(source) if isinstance(source, str | os.PathLike) else name
    if not isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
        raise UserError(f"{name}: expected a path, bytes or frames, got {type(source).__name__}")
    content = content_of(source, name)
    try:
        if content.startswith(_ANIMATED) and content[8:12] != b"AVI ":
            check_whole(content)
            return _of_animation(content, count, background, name)
        return _of_video(content, count, name)
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(name) else f"{name}: {text}") from None
    except Exception as error:  # a hostile file may raise anything in a decoder
        text = " ".join(str(error).split())[:120]
        raise UserError(f"{name}: not a video that gemb reads ({text})") from None


def _av():
    with needs("videos", extra="video"):
        import av
    return av


def _of_animation(content: bytes, count: int, background, name: str) -> list[Frame]:
    opened = open_picture(content, name)
    check_pixels(opened.size, name)
    starts, now = [], 0.0
    for number in range(min(getattr(opened, "n_frames", 1), _MAX_FRAMES)):
        opened.seek(number)
        opened.load()
        starts.append(now)
        now += (opened.info.get("duration") or 0) / 1000 or _STILL
    made = []
    opened = open_picture(content, name)
    for number in chosen(starts, now, count):
        opened.seek(number)
        picture = decode(Image(opened.copy()), background, name=name).picture
        made.append(Frame(picture, starts[number]))
    return made


def _of_video(content: bytes, count: int, name: str) -> list[Frame]:
    with _av().open(io.BytesIO(content)) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise UserError(f"{name}: holds no video")
        check_pixels((stream.codec_context.width, stream.codec_context.height), name)
        packets = [
            (packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.size
        ]
    if not packets:
        raise UserError(f"{name}: a video without frames")
    if len(packets) > _MAX_FRAMES:
        raise UserError(f"{name}: more than {_MAX_FRAMES:,} frames")
    whole = all(pts is not None for pts, *_ in packets)
    made = _by_time(content, sorted(packets), count) if whole else _by_order(content, count)
    if not made:
        raise UserError(f"{name}: no frame can be decoded")
    return made


def _by_time(content: bytes, packets: list[tuple], count: int) -> list[Frame]:
    """Jumps to the last key frame before each wanted frame, where that is behind it already."""
    starts = [pts for pts, *_ in packets]
    # the last frame lasts as long as the one before it; what files declare is often a rate's
    last = starts[-1] - starts[-2] if len(starts) > 1 else 1
    wanted = [starts[number] for number in chosen(starts, starts[-1] + last, count)]
    keys = [pts for pts, key in packets if key]
    made: list[Frame] = []
    with _av().open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames, now = iter(container.decode(stream)), starts[0]
        for target in wanted:
            place = bisect.bisect_right(keys, target) - 1
            if place >= 0 and keys[place] > now:
                container.seek(keys[place], stream=stream)
                frames = iter(container.decode(stream))
            for frame in frames:
                now = now if frame.pts is None else frame.pts
                if now >= target:
                    made.append(Frame(_upright(frame), float((now - starts[0]) * stream.time_base)))
                    break
    return made


def _by_order(content: bytes, count: int) -> list[Frame]:
    """For files without times: frames follow each other at one rate, and are counted."""

    def decoded():
        with _av().open(io.BytesIO(content)) as container:
            yield from enumerate(container.decode(container.streams.video[0]))

    number = sum(1 for _ in decoded())
    wanted = set(chosen(range(number), number, count)) if number else ()
    return [Frame(_upright(frame), float(row)) for row, frame in decoded() if row in wanted]


def _upright(frame):
    """A decoded frame as a Pillow image, turned as its display matrix says."""
    return turned(frame.to_image(), frame.rotation)


@dataclasses.dataclass(frozen=True)
class VideoProcessor(Unprompted):
    """The processor of videos; an `Image` is a video of one frame.

    Attributes:
        frames: how each frame becomes pixels.
        count: frames of a video.
    """

    frames: ImageProcessor = dataclasses.field(default_factory=ImageProcessor)
    count: int = 8

    modality: ClassVar[str] = "video"

    def __post_init__(self):
        check(self.count > 0, f"count: expected 1 or more, got {self.count}")

    @property
    def limit(self) -> int:
        """Positions of a video: those of its frames."""
        return self.count * self.frames.limit

    def check_encoder(self, encoder) -> None:
        """Checks the sizes against an encoder.

        Raises:
            ValueError: naming what does not fit.
        """
        check(
            encoder.modality == self.modality,
            f"processor: it makes inputs of videos, the encoder reads {encoder.modality!r}",
        )
        check(
            self.count <= encoder.frames,
            f"count: {self.count} frames exceed the encoder's {encoder.frames}",
        )
        self.frames.check_encoder(encoder.frame)

    def identity(self) -> tuple[str, dict]:
        """The versions of the decoders, and the settings."""
        definition, settings = self.frames.identity()
        return f"{VERSION}, {definition}", settings | {"count": self.count}

    def prepare(
        self, values: Sequence[Video | Image], side: str | Sequence[float] = ""
    ) -> list[Example]:
        """Reads frames.

        Returns:
            Examples whose content is [frames, height, width, 3] uint8.

        Raises:
            UserError: naming the video that cannot be read.
        """
        return [
            Example(value, self._pixels(value, f"values[{place}]"), self.limit)
            for place, value in enumerate(values)
        ]

    def _pixels(self, value: Video | Image, name: str) -> np.ndarray:
        if isinstance(value, Image):
            return self.frames.pixels(value, name=name)[None]
        found = frames_of(value, self.count, self.frames.background, name=name)
        return np.stack([np.asarray(self.frames.framed(frame.picture)) for frame in found])

    def bucket(self, size: int) -> int:
        """The same for every video."""
        return self.limit

    def collate(
        self, examples: Sequence[Example | None], size: int = 0, rows: int | None = None
    ) -> Clips:
        """Scales, and masks the frames that a video does not have."""
        rows = len(examples) if rows is None else rows
        shape = (rows, self.count, self.frames.height, self.frames.width, 3)
        pixels, mask = np.zeros(shape, np.float32), np.zeros((rows, self.count), bool)
        for row, example in enumerate(examples):
            if example is not None:
                found = len(example.content)
                self.frames.scaled(example.content, pixels[row, :found])
                mask[row, :found] = True
        return Clips(pixels, mask)

    def describe(self, inputs: Clips, row: int) -> str:
        """The number of frames of a row and their size."""
        shape = " x ".join(map(str, inputs.pixels.shape[2:4]))
        return f"{int(inputs.mask[row].sum())} frames of {shape}"

    def save(self, folder: Path, base: Path | None = None, *, cut: bool = False) -> None:
        """Writes preprocessor_config.json of the frames; their number is with the encoder."""
        self.frames.save(folder)
