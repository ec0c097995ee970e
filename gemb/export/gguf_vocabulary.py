"""A tokenizer.json as the tokenizer metadata of a GGUF file, where llama.cpp has its algorithm."""

import json

from gemb.checks import UserError
from gemb.pretrained.convert.gguf_tokenizer import words_of
from gemb.processors.text import TextProcessor

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_SPACE = "▁"


def write_vocabulary(writer, processor: TextProcessor, rows: int) -> None:
    """Adds the fields of a tokenizer to a file.

    Args:
        writer: a gguf.GGUFWriter.
        processor: whose tokenizer.
        rows: of the table of token vectors; rows beyond the vocabulary become unused tokens.

    Raises:
        UserError: for a tokenizer that llama.cpp does not have, or computes in another way.
    """
    content, words = check_vocabulary(processor)
    kind = content["model"]["type"]
    tokens, types = _tokens(content, rows, word_pieces=kind == "WordPiece")
    writer.add_tokenizer_model(words[0])
    writer.add_tokenizer_pre(words[1])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if kind == "BPE":
        merges = content["model"]["merges"]
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    _add_special(writer, processor, kind == "WordPiece")


def check_vocabulary(processor: TextProcessor) -> tuple[dict, tuple[str, str]]:
    """(the content of tokenizer.json, llama.cpp's names of the tokenizer and of its words).

    Raises:
        UserError: for a tokenizer that llama.cpp does not have, or computes in another way.
    """
    content = json.loads(processor.identity()[0])
    kind = content["model"].get("type")
    if kind == "WordPiece":
        _check_word_pieces(content)
        return content, ("bert", "bert")
    if kind == "BPE":
        return content, ("gpt2", _words(content))
    raise UserError(f"GGUF: gemb does not write llama.cpp's form of a {kind} tokenizer")


def _check_word_pieces(content: dict) -> None:
    """llama.cpp always makes texts lower case, and takes accents away."""
    normalizer = content.get("normalizer") or {}
    plain = normalizer.get("type") == "BertNormalizer" and normalizer.get("lowercase")
    if not plain or normalizer.get("strip_accents") is False:
        raise UserError(
            "GGUF: llama.cpp makes the texts of a WordPiece tokenizer lower case and takes accents "
            "away; this model's tokenizer keeps them"
        )


def _words(content: dict) -> str:
    normalizer = content.get("normalizer")
    if normalizer and normalizer.get("type") != "NFC":
        raise UserError(f"GGUF: llama.cpp has no normalizer {normalizer.get('type')!r}")
    words = words_of(content["pre_tokenizer"]) if content.get("pre_tokenizer") else None
    if words is None:
        raise UserError(
            "GGUF: gemb knows no name of llama.cpp for the way in which this tokenizer cuts texts "
            "into words"
        )
    return words


def _tokens(content: dict, rows: int, *, word_pieces: bool) -> tuple[list[str], list[int]]:
    added = {token["id"]: token for token in content.get("added_tokens", ())}
    by_row = {number: token for token, number in content["model"]["vocab"].items()}
    by_row |= {number: token["content"] for number, token in added.items()}
    tokens, types = [], []
    for row in range(rows):
        token, kind = by_row.get(row, f"[unused row {row}]"), _NORMAL
        if row in added:
            kind = _CONTROL if added[row]["special"] else _USER_DEFINED
        elif row not in by_row:
            kind = _UNUSED
        if word_pieces and kind == _NORMAL and not (token[0] == "[" and token[-1] == "]"):
            token = token[2:] if token.startswith("##") else _SPACE + token
        tokens.append(token)
        types.append(kind)
    return tokens, types


def _add_special(writer, processor: TextProcessor, word_pieces: bool) -> None:
    tokenizer = processor.tokenizer()
    before, after = tokenizer.around
    if len(before) > 1 or len(after) > 1 or (word_pieces and not (before and after)):
        raise UserError(
            f"GGUF: llama.cpp puts at most one token before and after a text; this tokenizer puts "
            f"{len(before)} and {len(after)}"
        )
    writer.add_add_bos_token(bool(before))
    if before:
        writer.add_bos_token_id(before[0])
    if word_pieces:
        writer.add_sep_token_id(after[0])
        writer.add_add_sep_token(True)
    else:
        writer.add_add_eos_token(bool(after))
    if after:
        writer.add_eos_token_id(after[0])
    writer.add_pad_token_id(tokenizer.padding)
    unknown = tokenizer.added.get("[UNK]")
    if unknown is not None:
        writer.add_unk_token_id(unknown)
