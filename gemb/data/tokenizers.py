"""Tokenizers: the one place where text becomes ids, for training and inference alike.

The Rust library does the work; no TensorFlow here, so that inference stays light.
"""

from collections.abc import Sequence

import tokenizers

from gemb.checks import UserError


class Tokenizer:
    """A tokenizer.json with a length limit.

    Texts are taken as they are, as sentence-transformers 6 does (earlier versions stripped outer
    white space, which only tokenizers that see white space notice). Truncation keeps the special
    tokens.

    Args:
        tokenizer_json: the text of tokenizer.json.
        max_length: tokens kept, special tokens included.
        prompt: put in front of every text.

    Example:
        >>> tokenizer = Tokenizer(byte_tokenizer_json(), max_length=4)
        >>> tokenizer.encode(["ab", "a long text"])
        [[1, 67, 68, 2], [1, 67, 223, 2]]
    """

    def __init__(self, tokenizer_json: str, max_length: int, prompt: str = ""):
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self.max_length = max_length
        self.prompt = prompt

    @property
    def vocab(self) -> int:
        """Number of tokens, added ones included."""
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenizes a batch, in parallel.

        Returns:
            One list of ids a text, at most max_length long.

        Raises:
            UserError: if an item is not a string, naming its place.
        """
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"texts[{i}]: expected a string, got {type(text).__name__}")
        prompted = [self.prompt + text for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(prompted)]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids back to text, without special tokens."""
        return self._tokenizer.decode(ids)


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
