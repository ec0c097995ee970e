"""The tokenizer of an exported program: a tokenizer.json that cuts and pads by itself."""

from pathlib import Path

import numpy as np
import tokenizers

from gemb.processors.text import TextProcessor


def write_tokenizer(processor: TextProcessor, folder: Path, base: Path | None) -> None:
    """Writes tokenizer.json, with the model's length limit, and the files next to it.

    Args:
        processor: whose tokenizer.
        folder: of the program.
        base: the folder that the model was read from.
    """
    processor.save(folder, base)
    place, own = folder / "tokenizer.json", processor.tokenizer()
    made = tokenizers.Tokenizer.from_file(str(place))
    made.enable_truncation(processor.max_length)
    made.enable_padding(pad_id=own.padding, pad_token=own.token(own.padding))
    made.save(str(place))


class FileTokens:
    """Texts as a program's inputs, by its tokenizer.json alone.

    Args:
        folder: of the program.
        prompts: {"query": ..., "document": ...}.
        prompt_tokens: leading tokens that the pooler does not see, by side; None for programs
            without a pooled mask.
    """

    def __init__(self, folder: Path, prompts: dict, prompt_tokens: dict | None):
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._prompts, self._prompt_tokens = prompts, prompt_tokens

    def __call__(self, texts: list[str], side: str) -> list[np.ndarray]:
        """One [batch, length] int32 for each input of the program."""
        rows = self._tokenizer.encode_batch([self._prompts[side] + text for text in texts])
        ids = np.array([row.ids for row in rows], np.int32).reshape(len(rows), -1)
        mask = np.array([row.attention_mask for row in rows], np.int32).reshape(ids.shape)
        if not ids.shape[1]:  # a static model's tokenizer gives nothing for an empty text
            ids = mask = np.zeros((len(rows), 1), np.int32)
        if self._prompt_tokens is None:
            return [ids, mask]
        pooled = mask.copy()
        pooled[:, : self._prompt_tokens[side]] = 0
        return [ids, mask, pooled]
