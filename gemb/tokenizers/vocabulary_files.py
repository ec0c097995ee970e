"""vocab.txt (WordPiece) and vocab.json with merges.txt (byte-level BPE), as tokenizer.json."""

import json
from pathlib import Path

from gemb.checks import UserError
from gemb.tokenizers.tokenizer_classes import CLASSES, byte_level, qwen2_words
from gemb.tokenizers.tokenizer_json import (
    REMEDY,
    Settings,
    added_token,
    all_added_tokens,
    read_text,
    template,
)

WORDPIECE_FAMILIES = {
    "bert": ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "bert", "distilbert",
             "electra", "nomic_bert"),
    "mpnet": ("MPNetTokenizer", "mpnet"),
}  # fmt: skip
BYTE_LEVEL_FAMILIES = {
    "roberta": ("RobertaTokenizer", "LongformerTokenizer", "roberta", "longformer"),
    "gpt2": ("GPT2Tokenizer", "gpt2"),
    "qwen2": ("Qwen2Tokenizer", "qwen2", "qwen3"),
}
# The tokens that a family has where its folder does not name them.
_ROLES = {
    "bert": CLASSES["BertTokenizer"].tokens,
    "mpnet": CLASSES["MPNetTokenizer"].tokens,
    "roberta": CLASSES["RobertaTokenizer"].tokens,
    "gpt2": CLASSES["GPT2Tokenizer"].tokens,
    "qwen2": CLASSES["Qwen2Tokenizer"].tokens,
}


def read_wordpiece(file: Path, settings: Settings) -> dict:
    """Reads vocab.txt into the content of tokenizer.json, in the manner of BERT.

    Raises:
        UserError: if the file cannot be read or lacks the family's special tokens.
    """
    family = settings.family(WORDPIECE_FAMILIES, str(file), default="bert")
    lines = read_text(file).removesuffix("\n").split("\n")
    vocabulary = {token: row for row, token in enumerate(lines)}
    options = settings.options
    return _assemble(
        file,
        settings,
        family,
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": options.get("tokenize_chinese_chars", True),
            "strip_accents": options.get("strip_accents"),
            "lowercase": options.get("do_lower_case", True),
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        model={
            "type": "WordPiece",
            "unk_token": settings.token("unk", "[UNK]"),
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    )


def read_byte_level(file: Path, settings: Settings) -> dict:
    """Reads vocab.json and the merges.txt beside it into the content of tokenizer.json.

    Raises:
        UserError: if a file cannot be read, the family is unknown or a special token is missing.
    """
    try:
        vocabulary = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: not JSON ({error}); fetch the file again") from None
    if not isinstance(vocabulary, dict):
        raise UserError(f"{file}: expected an object of tokens and ids; fetch the file again")
    guess = "roberta" if {"<s>", "</s>"} <= set(vocabulary) else "gpt2"
    family = settings.family(BYTE_LEVEL_FAMILIES, str(file), default=guess)
    prefix = bool(settings.options.get("add_prefix_space"))
    words = byte_level(prefix, use_regex=family != "qwen2")
    words = qwen2_words(words) if family == "qwen2" else words
    return _assemble(
        file,
        settings,
        family,
        normalizer={"type": "NFC"} if family == "qwen2" else None,
        pre_tokenizer=words,
        decoder={
            "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True
        },
        model={"type": "BPE", "vocab": vocabulary, "merges": _read_merges(file.parent)},
    )  # fmt: skip


def _assemble(file: Path, settings: Settings, family: str, **parts) -> dict:
    """Puts the special tokens to the parts of a tokenizer.json."""
    ids = parts["model"]["vocab"]
    names = {role: settings.token(role, name) for role, name in _ROLES[family].items()}
    tokens = [
        added_token(ids[name], name, **settings.token_flags(role))
        for role, name in names.items()
        if name in ids
    ]
    tokens = all_added_tokens(tokens, ids, settings, str(file))
    ids = ids | {token["content"]: token["id"] for token in tokens}
    before, after = _around(family, names, settings)
    for name in (*before, *after):
        if name not in ids:
            raise UserError(f"{file}: lacks the special token {name!r}; {REMEDY}")
    before, after = ({name: ids[name] for name in side} for side in (before, after))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens,
        "post_processor": template(before, after) if before or after else None,
        **parts,
    }


def _around(family: str, names: dict, settings: Settings) -> tuple[list[str], list[str]]:
    if "cls" in names:
        return [names["cls"]], [names["sep"]]
    starts, ends = (settings.options.get(f"add_{side}_token") for side in ("bos", "eos"))
    return [names["bos"]] if starts else [], [names["eos"]] if ends else []


def _read_merges(folder: Path) -> list[list[str]]:
    file = folder / "merges.txt"
    lines = read_text(file).split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    merges = [line.split(" ") for line in lines[first:] if line.strip()]
    wrong = next((merge for merge in merges if len(merge) != 2), None)
    if wrong:
        raise UserError(f"{file}: {' '.join(wrong)!r} is not a merge of two; fetch the file again")
    return merges
