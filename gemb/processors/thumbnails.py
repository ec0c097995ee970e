"""Small pictures inside of pages: a page stays one file."""

import base64
import io

from gemb.processors.decoding import decode
from gemb.structs import Image


def data_uri(image: Image, side: int = 160) -> str:
    """A picture as the value of `src` in HTML, its longer side `side` pixels at most.

    Raises:
        UserError: for a picture that cannot be read.
    """
    picture = decode(image).picture
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
