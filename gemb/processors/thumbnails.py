"""Small pictures inside of pages: a page stays one file."""

import base64
import io

from gemb.processors.decoding import WHITE, decode
from gemb.processors.video import frames_of
from gemb.structs import Image, Video


def data_uri(value: Image | Video, side: int = 160) -> str:
    """A picture as the value of `src` in HTML, its longer side `side` pixels at most.

    Of a video it is the frame in the middle of its time.

    Raises:
        UserError: for a picture or a video that cannot be read.
    """
    if isinstance(value, Video):
        picture = frames_of(value, 1, WHITE)[0].picture
    else:
        picture = decode(value).picture
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
