"""Encoding by SentencePiece itself, for tokenizers that the Rust library cannot follow exactly.

`gemb.tokenizers.sentencepiece_model` says which those are; they carry their .model file in
tokenizer.json as `model.sentencepiece`.
"""

import base64
import os
from collections.abc import Callable, Sequence

from gemb.checks import UserError


class SentencePieceEncoder:
    """Texts to ids of tokenizer.json by the .model file inside it.

    Args:
        content: tokenizer.json, parsed.
        token_to_id: its vocabulary, which may number the pieces in another way than the .model.
        max_length: ids kept, special tokens included.

    Raises:
        UserError: if sentencepiece is not installed.
    """

    def __init__(self, content: dict, token_to_id: Callable[[str], int], max_length: int):
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
        self._before, self._after = _around(content["post_processor"])
        self._room = max_length - len(self._before) - len(self._after)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Encodes a batch, in parallel; at most max_length ids a text."""
        threads = max(1, min(len(texts), os.cpu_count() or 1, 16))
        rows, room = self._rows, self._room
        return [
            [*self._before, *(rows[i] for i in pieces[:room]), *self._after]
            for pieces in self._processor.encode(list(texts), num_threads=threads)
        ]


def _around(post_processor: dict | None) -> tuple[list[int], list[int]]:
    """The ids that a template puts before and after a text."""
    if not post_processor:
        return [], []
    sides, side = ([], []), 0
    for item in post_processor["single"]:
        if "Sequence" in item:
            side = 1
        else:
            name = item["SpecialToken"]["id"]
            sides[side].extend(post_processor["special_tokens"][name]["ids"])
    return sides
