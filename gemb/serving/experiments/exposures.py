"""The log of what was shown: a line of JSON for each search that is part of an experiment.

{"time", "experiment", "arm", "unit", "version", "retriever", "fallback", "hits", "request_id"}
`unit` is a hash, `hits` are ids of documents, best first. An interleaved answer also has "teams",
which ranking gave each hit. No text and no id of a user is written. `gemb ab` reads it.
"""

import threading
from pathlib import Path

import orjson

from gemb.checks import UserError

_BYTES = 64 << 20


class Exposures:
    """Appends lines to a file, which is renamed when it is full.

    Args:
        file: NAME.jsonl; full ones become NAME.jsonl.1, .2 and so on, the newest last.
        most: bytes of a file.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, file: str | Path, *, most: int = _BYTES):
        self._path, self._most = Path(file).expanduser(), most
        self._lock = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._out = open(self._path, "ab")  # noqa: SIM115 - as long as the server runs
        except OSError as error:
            raise UserError(f"{file}: cannot be written ({error.strerror})") from None

    def write(self, line: dict) -> None:
        """Appends one line, whole."""
        text = orjson.dumps(line) + b"\n"
        with self._lock:
            if self._out.tell() + len(text) > self._most and self._out.tell():
                self._rotate()
            self._out.write(text)
            self._out.flush()

    def close(self) -> None:
        """Closes the file."""
        self._out.close()

    def _rotate(self) -> None:
        self._out.close()
        number = 1
        while (full := self._path.with_name(f"{self._path.name}.{number}")).exists():
            number += 1
        self._path.rename(full)
        self._out = open(self._path, "ab")  # noqa: SIM115
