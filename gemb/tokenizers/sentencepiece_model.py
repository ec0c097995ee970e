"""SentencePiece .model files rewritten as tokenizer.json, with the ids of SentencePiece itself.

Byte-pair models whose rules the Rust library follows to the letter become plain tokenizer.json
files. All others carry the .model file along, in base64 as `model.sentencepiece`, which Rust
overlooks and `gemb.tokenizers` encodes with: SentencePiece adds unigram scores in float32,
which decides near-ties, replaces characters where Rust replaces graphemes, and never finds a
reserved piece such as "<unk>" in a text. Other tools read the Rust half, which gives other ids for
some texts.

The names of control symbols inside a text ("</s>") stay text, as in SentencePiece: gemb reads that
from `model.special_tokens_in_text`. `split_digits` and the like only matter to the training of a
SentencePiece model; encoding never looks at them.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

from gemb.checks import UserError
from gemb.tokenizers.tokenizer_json import REMEDY, added_token

# What SentencePiece's protocol buffer calls the types of pieces and the algorithms.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
_SPACE = "▁"


def parse(model: bytes, file: Path):
    """Parses the bytes of a .model file.

    Returns:
        SentencePiece's ModelProto.

    Raises:
        UserError: if it is broken, neither unigram nor byte-pair, or if a library is missing.
    """
    try:
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise UserError(f"{file}: {error}; run: pip install sentencepiece protobuf") from None
    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(model)
    except DecodeError:
        proto.Clear()
    kinds = [piece.type for piece in proto.pieces]
    if NORMAL not in kinds or kinds.count(UNKNOWN) != 1:
        raise UserError(f"{file}: not a SentencePiece model; fetch the file again, or {REMEDY}")
    if proto.trainer_spec.model_type not in (UNIGRAM, BPE):
        raise UserError(f"{file}: neither a unigram nor a byte-pair model; {REMEDY}")
    return proto


def tokenizer_json(model: bytes, proto, rows: Sequence[tuple[str, int | None]]) -> dict:
    """The tokenizer.json of a .model file, without special tokens around a text.

    Args:
        model: the file's content.
        proto: the same, parsed.
        rows: of the vocabulary: a token's name and the place of its piece in the .model, or None
            for a token that the .model lacks.

    Returns:
        The content of tokenizer.json as a dict.
    """
    spec, rules = proto.trainer_spec, proto.normalizer_spec
    kinds = [CONTROL if place is None else proto.pieces[place].type for _, place in rows]
    if spec.model_type == UNIGRAM:
        algorithm = _unigram(proto, rows, kinds)
    else:
        algorithm = {
            "type": "BPE",
            "unk_token": rows[kinds.index(UNKNOWN)][0],
            "fuse_unk": True,
            "vocab": {name: row for row, (name, _) in enumerate(rows)},
            "merges": _merges(proto),
        }
    algorithm |= {"byte_fallback": spec.byte_fallback, "special_tokens_in_text": False}
    if not _rust_is_exact(proto):
        algorithm["sentencepiece"] = base64.b64encode(model).decode()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(rows, kinds),
        "normalizer": _normalizer(rules),
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": _decoder(rules),
        "model": algorithm,
    }


def _rust_is_exact(proto) -> bool:
    """Whether Rust's byte-pair encoding takes SentencePiece's steps."""
    rules, kinds = proto.normalizer_spec, {piece.type for piece in proto.pieces}
    changes_ends = rules.add_dummy_prefix or rules.remove_extra_whitespaces
    return (
        proto.trainer_spec.model_type == BPE
        and not rules.precompiled_charsmap
        and rules.escape_whitespaces
        and not proto.trainer_spec.treat_whitespace_as_suffix
        and UNUSED not in kinds  # SentencePiece takes such pieces apart again
        and not (USER_DEFINED in kinds and changes_ends)  # Rust would change each symbol's ends
        and not _has_ties(proto)
    )


def _has_ties(proto) -> bool:
    """SentencePiece merges equal scores from the left, Rust by rank; runs of ▁ agree anyway."""
    scores = [
        piece.score
        for piece in proto.pieces
        if piece.type == NORMAL and len(piece.piece) > 1 and set(piece.piece) != {_SPACE}
    ]
    return len(set(scores)) < len(scores)


def _unigram(proto, rows, kinds) -> dict:
    """Rust may find any row's name in a text: what must not be found gets the lowest score."""
    lowest = min(piece.score for piece in proto.pieces if piece.type == NORMAL)
    scores = {UNKNOWN: 0.0, USER_DEFINED: -0.1}  # -0.1 is SentencePiece's own constant
    vocabulary = [
        [name, proto.pieces[place].score if kind == NORMAL else scores.get(kind, lowest)]
        for (name, place), kind in zip(rows, kinds, strict=True)
    ]
    return {"type": "Unigram", "unk_id": kinds.index(UNKNOWN), "vocab": vocabulary}


def _merges(proto) -> list[list[str]]:
    """Every way to join two pieces into a third, best first.

    Of equal scores (runs of ▁) the longest goes first: a run then grows from the left, as
    SentencePiece's rule "leftmost first" makes it grow.
    """
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == NORMAL}
    merges = [
        (-score, -len(whole), -cut, whole[:cut], whole[cut:])
        for whole, score in scores.items()
        for cut in range(1, len(whole))
        if whole[:cut] in scores and whole[cut:] in scores
    ]
    return [[left, right] for *_, left, right in sorted(merges)]


def _added_tokens(rows, kinds) -> list[dict]:
    tokens = []
    for row, ((name, _), kind) in enumerate(zip(rows, kinds, strict=True)):
        if kind in (CONTROL, UNKNOWN):
            tokens.append(added_token(row, name))
        elif kind == USER_DEFINED:  # looked for behind the normalizer, where spaces are ▁
            tokens.append(added_token(row, name, special=False, normalized=True))
    return tokens


def _normalizer(rules) -> dict:
    space = _SPACE if rules.escape_whitespaces else " "
    steps = []
    if rules.precompiled_charsmap:
        charsmap = base64.b64encode(rules.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if rules.remove_extra_whitespaces:
        steps += [_replace(r" {2,}", " "), _replace(r"\A ", "")]
    if rules.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": space})
    if rules.escape_whitespaces:
        steps.append(_replace(" ", space))
    if rules.remove_extra_whitespaces:
        steps.append(_replace(rf"{space}+\z", ""))
    return {"type": "Sequence", "normalizers": steps}


def _replace(pattern: str, content: str) -> dict:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _decoder(rules) -> dict:
    steps = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if rules.add_dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}
