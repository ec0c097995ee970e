"""Reads the tokenizer of a model folder, whatever its files, as the text of a tokenizer.json.

That text is the one form in which gemb holds a tokenizer: it is hashed into a model's fingerprint,
written back on saving, and encoded with by `gemb.tokenizers.tokenizer`.
"""

import json
from pathlib import Path

from gemb.checks import UserError
from gemb.tokenizers import class_rules, sentencepiece_families, vocabulary_files
from gemb.tokenizers.tokenizer_json import REMEDY, Settings, read_text

_READERS = {
    "tokenizer.model": sentencepiece_families.read,
    "spiece.model": sentencepiece_families.read,
    "sentencepiece.bpe.model": sentencepiece_families.read,
    "spm.model": sentencepiece_families.read,
    "vocab.txt": vocabulary_files.read_wordpiece,
    "vocab.json": vocabulary_files.read_byte_level,
}


def read_tokenizer(folder: str | Path, rows: int | None = None, *, alone: bool = False) -> str:
    """Reads the tokenizer of a model folder.

    tokenizer.json comes first, with what tokenizer_config.json and the tokenizer's class change of
    it, as `gemb.tokenizers.class_rules` says; else a SentencePiece file (tokenizer.model,
    spiece.model, sentencepiece.bpe.model, spm.model), vocab.txt, or vocab.json with merges.txt is
    rewritten, with the special tokens of the model type or tokenizer class that the folder names.

    Args:
        folder: a model folder, or a .model file by itself, which gets no special tokens.
        rows: of the model's embedding table; None where there is none yet.
        alone: whether tokenizer.json counts as it is, as for static models.

    Returns:
        The text of a tokenizer.json.

    Raises:
        UserError: if there is no tokenizer, a file is broken or its kind is unknown, naming the
            file and the remedy.
    """
    folder = Path(folder)
    file = folder / "tokenizer.json"
    if file.exists():
        text = _checked(read_text(file), file)
        return text if alone else class_rules.apply(text, _settings(folder), file, rows)
    if folder.suffix == ".model" and folder.is_file():
        return _rewritten(folder, sentencepiece_families.read, Settings())
    for name, reader in _READERS.items():
        if (folder / name).exists():
            return _rewritten(folder / name, reader, _settings(folder))
    names = ", ".join(["tokenizer.json", *_READERS])
    raise UserError(f"{folder}: no tokenizer; expected one of {names}")


def _settings(folder: Path) -> Settings:
    options = _read_json(folder / "tokenizer_config.json")
    if "added_tokens_decoder" not in options:
        options |= _read_json(folder / "special_tokens_map.json")
    config = _read_json(folder / "config.json")
    return Settings(
        model_type=config.get("model_type") or "",
        options=options,
        added=_read_json(folder / "added_tokens.json"),
        config_class=config.get("tokenizer_class") or "",
    )


def _rewritten(file: Path, reader, settings: Settings) -> str:
    return _checked(json.dumps(reader(file, settings), ensure_ascii=False), file)


def _checked(text: str, file: Path) -> str:
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_str(text)
    except Exception as error:  # the Rust library raises Exception itself
        raise UserError(f"{file}: not a tokenizer ({error}); fetch it again, or {REMEDY}") from None
    return text


def _read_json(file: Path) -> dict:
    if not file.exists():
        return {}
    try:
        content = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: not JSON ({error}); fetch the file again") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected an object, got a {type(content).__name__}")
    return content
