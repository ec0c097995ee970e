"""Text to token ids, and the vocabulary files of other libraries."""

from gemb.tokenizers.tokenizer import Tokenizer, byte_tokenizer_json

__all__ = ["Tokenizer", "byte_tokenizer_json"]
