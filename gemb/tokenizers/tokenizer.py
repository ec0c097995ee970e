"""Tokenizers: the one place where text becomes ids, for training and inference alike.

The Rust library does the work, or SentencePiece where only that gives its own ids; no TensorFlow
here, so that inference stays light. `gemb.tokenizers.tokenizer_files` reads tokenizers from
model folders.
"""

import functools
import json
from collections.abc import Sequence

import tokenizers

from gemb.checks import UserError
from gemb.tokenizers.sentencepiece_encoder import SentencePieceEncoder

_PADDING = ("[PAD]", "<pad>", "<|pad|>", "<PAD>", "<|endoftext|>")


class Tokenizer:
    """A tokenizer.json with a length limit.

    Texts are taken as they are, as sentence-transformers 6 does (earlier versions stripped outer
    white space, which only tokenizers that see white space notice). Truncation keeps the special
    tokens and takes place on the side that tokenizer.json says; its limits and padding are
    overlooked. The name of a special token
    inside a text ("[SEP]") becomes that token, as in transformers, except where tokenizer.json was
    made of a SentencePiece file, which knows no such names.

    Args:
        tokenizer_json: the text of tokenizer.json.
        max_length: tokens kept, special tokens included.
        prompt: put in front of every text.

    Raises:
        UserError: for a broken tokenizer.json, a prompt that is not valid Unicode, or a max_length
            below the number of special tokens.

    Example:
        >>> tokenizer = Tokenizer(byte_tokenizer_json(), max_length=4)
        >>> tokenizer.encode(["ab", "a long text"])
        [[1, 67, 68, 2], [1, 67, 223, 2]]
    """

    def __init__(self, tokenizer_json: str, max_length: int, prompt: str = ""):
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the Rust library raises Exception itself
            raise UserError(f"tokenizer_json: not a tokenizer ({error})") from None
        special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_length < max(special, 1):
            raise UserError(
                f"max_length: {max_length} has no room for the tokenizer's {special} special tokens"
            )
        _check_unicode("prompt", prompt)
        self._tokenizer.no_padding()
        side = (self._tokenizer.truncation or {}).get("direction", "right")
        self._tokenizer.enable_truncation(max_length, direction=side)
        self.max_length = max_length
        self.prompt = prompt
        self._encode = self._encode_by_rust
        if '"special_tokens_in_text"' in tokenizer_json:  # else spare the parsing of a big file
            content = json.loads(tokenizer_json)
            in_text = content["model"].get("special_tokens_in_text", True)
            self._tokenizer.encode_special_tokens = not in_text
            if "sentencepiece" in content["model"]:
                row = self._tokenizer.token_to_id
                self._encode = SentencePieceEncoder(content, row, max_length, side)

    @functools.cached_property
    def vocab(self) -> int:
        """The largest id that a text can get, plus one: rows that a table of embeddings needs."""
        return max(self._tokenizer.get_vocab().values(), default=-1) + 1

    @property
    def padding(self) -> int:
        """The id of the padding token; 0 where the tokenizer has none. Masks hide it anyway."""
        ids = (self._tokenizer.token_to_id(name) for name in _PADDING)
        return next((i for i in ids if i is not None), 0)

    @functools.cached_property
    def prompt_length(self) -> int:
        """How many leading tokens belong to the prompt, an opening special token included.

        That is what sentence-transformers leaves out of pooling with `include_prompt=False`: the
        length of the prompt tokenized by itself, without a special token at its end.
        """
        ids = self._encode([self.prompt])[0] if self.prompt else []
        added = self._tokenizer.get_added_tokens_decoder()
        closed = bool(ids) and ids[-1] in added and added[ids[-1]].special
        return len(ids) - closed

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenizes a batch, in parallel.

        Returns:
            One list of ids a text, at most max_length long.

        Raises:
            UserError: if an item is not a string or not valid Unicode, naming its place.
        """
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"texts[{i}]: expected a string, got {type(text).__name__}")
        try:
            return self._encode([self.prompt + text for text in texts])
        except TypeError:  # both libraries' word for a lone surrogate
            for i, text in enumerate(texts):
                _check_unicode(f"texts[{i}]", text)
            raise

    def places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text without special tokens, and the characters that each stands for.

        Returns:
            The ids, and (start, end) of each in the prompt and the text after it; equal numbers
            for a token that stands for no character.

        Raises:
            UserError: for a text that is not valid Unicode, or a tokenizer that SentencePiece
                itself computes, which does not say where its tokens are.
        """
        if isinstance(self._encode, SentencePieceEncoder):
            raise UserError(
                "this model's tokens are made by SentencePiece itself, which does not say where in "
                "a text they are"
            )
        _check_unicode("text", text)
        encoded = self._tokenizer.encode(self.prompt + text, add_special_tokens=False)
        return encoded.ids, encoded.offsets

    def decode(self, ids: Sequence[int]) -> str:
        """Ids back to text, without special tokens."""
        return self._tokenizer.decode(ids)

    def show(self, ids: Sequence[int]) -> str:
        """Ids back to text, with added tokens such as "[SEP]" left visible."""
        added = {number: name for name, number in self.added.items()}
        pieces, run = [], []
        for token in ids:
            if token in added:
                pieces += [self.decode(run), added[token]]
                run = []
            else:
                run.append(token)
        return " ".join(piece for piece in [*pieces, self.decode(run)] if piece)

    def token(self, number: int) -> str | None:
        """The token with an id; None where there is none."""
        return self._tokenizer.id_to_token(number)

    def token_id(self, token: str) -> int | None:
        """The id of a token; None where there is none of that name."""
        return self._tokenizer.token_to_id(token)

    @functools.cached_property
    def added(self) -> dict[str, int]:
        """The added tokens with their ids, in the order of the ids."""
        known = self._tokenizer.get_added_tokens_decoder()
        return {token.content: number for number, token in sorted(known.items())}

    @property
    def special(self) -> list[str]:
        """The special ones among the added tokens."""
        known = self._tokenizer.get_added_tokens_decoder().values()
        return [token.content for token in known if token.special]

    @functools.cached_property
    def around(self) -> tuple[list[int], list[int]]:
        """The ids that are put before and after the tokens of every text."""
        empty, some = self._encode(["", "a"])
        before = 0
        while before < min(len(empty), len(some)) and empty[before] == some[before]:
            before += 1
        return empty[:before], empty[before:]

    def _encode_by_rust(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]


def byte_tokenizer_json() -> str:
    """A tokenizer of one token a byte, for debugging and users' tests: nothing to download.

    Ids: 0 padding, 1 start, 2 end, then the 256 byte symbols.
    """
    symbols = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[CLS]", "[SEP]", *symbols])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer.to_str()


def _check_unicode(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{name}: not valid Unicode (a lone surrogate {text[error.start]!r} at character "
            f"{error.start}); decode the text again, with errors='replace'"
        ) from None
