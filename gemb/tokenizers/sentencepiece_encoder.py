"""Encoding by SentencePiece itself, for tokenizers that the Rust library cannot follow exactly.

`gemb.tokenizers.sentencepiece_model` says which those are; they carry their .model file in
tokenizer.json as `model.sentencepiece`.
"""

import base64
import os
from collections.abc import Callable, Sequence

from gemb.checks import UserError
from gemb.tokenizers.tokenizer_json import frame


class SentencePieceEncoder:
    """Texts to ids of tokenizer.json by the .model file inside it.

    Args:
        content: tokenizer.json, parsed.
        token_to_id: its vocabulary, which may number the pieces in another way than the .model.
        max_length: ids kept, special tokens included.
        side: where longer texts are cut, "right" or "left".

    Raises:
        UserError: if sentencepiece is not installed.
    """

    def __init__(
        self,
        content: dict,
        token_to_id: Callable[[str], int],
        max_length: int,
        side: str = "right",
    ):
        try:
            import sentencepiece
        except ImportError as error:
            raise UserError(
                f"{error}: this tokenizer needs it: pip install sentencepiece"
            ) from None
        model = base64.b64decode(content["model"]["sentencepiece"])
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = range(self._processor.get_piece_size())
        self._rows = [token_to_id(self._processor.id_to_piece(i)) for i in pieces]
        self._before, self._after = frame(content["post_processor"])
        self._left = side == "left"
        self._room = max_length - len(self._before) - len(self._after)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Encodes a batch, in parallel; at most max_length ids a text."""
        threads = max(1, min(len(texts), os.cpu_count() or 1, 16))
        rows = self._rows
        return [
            [*self._before, *(rows[i] for i in self._cut(pieces)), *self._after]
            for pieces in self._processor.encode(list(texts), num_threads=threads)
        ]

    def _cut(self, pieces: list[int]) -> list[int]:
        return pieces[max(0, len(pieces) - self._room) :] if self._left else pieces[: self._room]
