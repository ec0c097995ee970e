"""Lays tokenizer_config.json and the tokenizer's class over tokenizer.json, as transformers 5 does.

The result is again a tokenizer.json. Where nothing changes the ids, it is the file's own text: a
model's fingerprint is made of it.
"""

import json
from pathlib import Path

import tokenizers

from gemb.checks import UserError
from gemb.tokenizers.special_tokens import SpecialTokens, special_tokens
from gemb.tokenizers.tokenizer_classes import CLASSES, TokenizerClass, tokenizer_class
from gemb.tokenizers.tokenizer_json import FLAGS, REMEDY, Settings, frame, template

_SECTIONS = ("normalizer", "pre_tokenizer")
_MODEL = ("type", "unk_token", "unk_id", "fuse_unk", "byte_fallback", "ignore_merges", "dropout",
          "continuing_subword_prefix", "end_of_word_suffix",
          "max_input_chars_per_word")  # fmt: skip
_DEFAULTS = {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
_SIDES = {"left": "Left", "right": "Right"}


def apply(text: str, settings: Settings, file: Path, rows: int | None = None) -> str:
    """The tokenizer.json with which a folder's texts become the ids of AutoTokenizer.

    A tokenizer.json that gemb made of other files says all by itself and stays as it is.

    Args:
        text: of tokenizer.json.
        settings: what the folder says next to it.
        file: what errors name.
        rows: of the embedding table: tokens of the class that no file names are left out if they
            would have no row.

    Raises:
        UserError: for a class that gemb does not follow or a setting that cannot be read.
    """
    content = json.loads(text)
    model = content.get("model") or {}
    if "special_tokens_in_text" in model:
        return text
    try:
        name = tokenizer_class(settings.class_name, settings.model_type, '"ByteLevel"' in text)
        kind = CLASSES[name]
        if kind.model and model.get("type", kind.model) != kind.model:
            raise UserError(f"{name} needs a {kind.model} model, the file's is {model['type']}")
        special = special_tokens(kind, content, settings)
        changed = _sections(kind, content, special, settings.options)
        _add_tokens(changed, kind, special, rows)
        _put_around(changed, kind, special)
        _set_options(changed, settings.options)
    except UserError as error:
        raise UserError(f"{file}: {error}; {REMEDY}") from None
    except Exception as error:  # the Rust library raises Exception itself
        raise UserError(f"{file}: tokenizer_config.json does not fit it ({error})") from None
    return text if changed == content else json.dumps(changed, ensure_ascii=False)


def _sections(kind: TokenizerClass, content: dict, special: SpecialTokens, options: dict) -> dict:
    """The file's content, with the parts that the class builds by itself where they differ."""
    changed = dict(content)
    if not kind.model:
        return changed
    vocabulary = content["model"]["vocab"]
    given = {f"{role}_token": str(token.content) for role, token in special.roles.items()}
    given |= {name: value for name, value in options.items() if name not in given}
    given["charsmap"] = _charsmap(content.get("normalizer"))
    model, *parts = kind.parts(given, vocabulary)
    for section, part in zip(_SECTIONS, parts, strict=True):
        if not _same_section(section, content.get(section), part):
            changed[section] = part
    own = {key: vocab for key, vocab in content["model"].items() if key in ("vocab", "merges")}
    model = {"type": kind.model, **model}
    if _plain_model(content["model"], kind.model) != _plain_model(model, kind.model):
        changed["model"] = model | own
    return changed


def _charsmap(normalizer: dict | None) -> dict | None:
    """The first rules of SentencePiece's characters among a normalizer's steps."""
    steps = (normalizer or {}).get("normalizers", [normalizer] if normalizer else [])
    return next((step for step in steps if step.get("type") == "Precompiled"), None)


def _plain_model(model: dict, kind: str) -> dict:
    found = {key: model.get(key, _DEFAULTS.get(key)) or _DEFAULTS.get(key) for key in _MODEL}
    if kind == "Unigram":  # 0 is an id there
        found["unk_id"] = model.get("unk_id")
    return found | {"type": kind}


def _same_section(section: str, old: dict | None, new: dict | None) -> bool:
    """Whether two normalizers or pre-tokenizers do the same, whatever their spelling."""
    return old == new or _spelled(section, old) == _spelled(section, new)


def _spelled(section: str, part: dict | None):
    """A section as the Rust library spells it, without what only moves offsets."""
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    whole = {"version": "1.0", "added_tokens": [], "model": empty, section: part}
    part = json.loads(tokenizers.Tokenizer.from_str(json.dumps(whole)).to_str())[section]
    steps = (part or {}).get("pretokenizers") or (part or {}).get("normalizers") or [part]
    steps = [dict(step or {}) for step in steps]
    for step in steps:
        step.pop("trim_offsets", None)
        if step.get("type") == "BertNormalizer" and step["strip_accents"] is None:
            step["strip_accents"] = step["lowercase"]
    return steps


def _add_tokens(
    changed: dict, kind: TokenizerClass, special: SpecialTokens, rows: int | None
) -> None:
    """Adds the folder's tokens as the Rust library numbers them."""
    if not kind.model and not _has_new(special, changed.get("added_tokens") or []):
        return
    bare = changed | ({"added_tokens": []} if kind.model else {}) | {"post_processor": None}
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(bare, ensure_ascii=False))
    tokenizer.add_tokens(special.tokens)
    left_out = set()
    for token in special.defaults:
        known = tokenizer.token_to_id(token.content) is not None
        if known or rows is None or tokenizer.get_vocab_size() < rows:
            tokenizer.add_tokens([token])
        else:
            left_out.add(token.content)
    if kind.again:
        again = [*special.roles.values(), *special.extra]
        again = [token for token in again if token.content not in left_out]
        tokenizer.add_tokens([tokenizers.AddedToken(t.content, special=True) for t in again])
    found = sorted(tokenizer.get_added_tokens_decoder().items())
    tokens = [{"id": number, "content": token.content} | _flags(token) for number, token in found]
    if tokens != sorted(changed.get("added_tokens") or [], key=lambda token: token["id"]):
        changed["added_tokens"] = tokens
    special.ids.update({token["content"]: token["id"] for token in tokens})


def _has_new(special: SpecialTokens, old: list[dict]) -> bool:
    """Whether the folder names a token that tokenizer.json lacks or describes in another way."""
    known = {token["content"]: {flag: token.get(flag) for flag in FLAGS} for token in old}
    return any(known.get(token.content) != _flags(token) for token in special.tokens)


def _flags(token: tokenizers.AddedToken) -> dict[str, bool]:
    return {flag: getattr(token, flag) for flag in FLAGS}


def _put_around(changed: dict, kind: TokenizerClass, special: SpecialTokens) -> None:
    """Puts the class's own tokens around a text, where the file does not do so anyway."""
    if not kind.around:
        return
    sides = [{special.name(role): special.id(role)} if role else {} for role in kind.around]
    if frame(changed.get("post_processor")) != tuple(list(side.values()) for side in sides):
        changed["post_processor"] = template(*sides)


def _set_options(changed: dict, options: dict) -> None:
    """The side that texts are cut at, and whether names of special tokens in a text count."""
    side, old = options.get("truncation_side"), changed.get("truncation")
    if side is not None and side not in _SIDES:
        raise UserError(f"truncation_side is 'left' or 'right', got {side!r}")
    if side and _SIDES[side] != (old or {}).get("direction", "Right"):
        plain = {"max_length": 512, "strategy": "LongestFirst", "stride": 0}
        changed["truncation"] = (old or plain) | {"direction": _SIDES[side]}
    if options.get("split_special_tokens"):
        changed["model"] = changed["model"] | {"special_tokens_in_text": False}
