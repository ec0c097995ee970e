"""What all kinds of tokenizer files share: the folder's settings, and special tokens."""

import dataclasses
from pathlib import Path

from gemb.checks import UserError

REMEDY = "save a tokenizer.json with transformers' AutoTokenizer.save_pretrained and put it there"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# How Qwen2 cuts a text into words: Qwen2Tokenizer of transformers, whose ids depend on each sign.
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Classes that say nothing about the kind of a tokenizer.
_GENERIC = ("", "PreTrainedTokenizer", "TokenizersBackend", "AutoTokenizer")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a model folder says about its tokenizer beside the vocabulary.

    Attributes:
        model_type: of config.json; "" where there is none.
        options: tokenizer_config.json and, where that lists no added tokens, over it the older
            special_tokens_map.json.
        added: added_tokens.json, {token: id}.
        config_class: the tokenizer's class in config.json; "" where it names none.
    """

    model_type: str = ""
    options: dict = dataclasses.field(default_factory=dict)
    added: dict = dataclasses.field(default_factory=dict)
    config_class: str = ""

    @property
    def class_name(self) -> str:
        """The class of the tokenizer as transformers calls it; "" where nothing says so."""
        name = self.options.get("tokenizer_class") or self.config_class or ""
        if not isinstance(name, str):
            raise UserError(f"tokenizer_class: expected the name of a class, got {name!r}")
        return name

    def family(self, families: dict[str, tuple[str, ...]], place: str, default: str) -> str:
        """The family whose row names the tokenizer class or, failing that, the model type.

        Args:
            families: {family: (classes and model types)}.
            place: what errors call the file.
            default: of a folder that tells neither.

        Raises:
            UserError: if the folder tells a class or type that no row names.
        """
        kind = self.class_name.removesuffix("Fast")
        kind = self.model_type if kind in _GENERIC else kind
        for family, names in families.items():
            if kind in names:
                return family
        if not kind:
            return default
        known = ", ".join(name for names in families.values() for name in names)
        raise UserError(f"{place}: no way to read it for {kind} (known: {known}); {REMEDY}")

    def token(self, role: str, default: str | None = None) -> str | None:
        """The token of a role such as "cls"."""
        token = self.options.get(f"{role}_token") or default
        return token["content"] if isinstance(token, dict) else token

    def token_flags(self, role: str) -> dict[str, bool]:
        """What the folder says of how the token of a role is found in a text."""
        token = self.options.get(f"{role}_token")
        token = token if isinstance(token, dict) else {}
        return {flag: token[flag] for flag in FLAGS[:-1] if flag in token}


def template(before: dict[str, int], after: dict[str, int]) -> dict:
    """A `post_processor` that puts tokens, {name: id}, before and after a text."""
    first, last = (
        [{"SpecialToken": {"id": name, "type_id": 0}} for name in side] for side in (before, after)
    )
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    return {
        "type": "TemplateProcessing",
        "single": [*first, texts[0], *last],
        "pair": [*first, texts[0], *last, texts[1], *last],
        "special_tokens": {
            name: {"id": name, "ids": [row], "tokens": [name]}
            for name, row in (before | after).items()
        },
    }


def frame(post_processor: dict | None) -> tuple[list[int], list[int]]:
    """The ids that a `post_processor` puts before and after a text."""
    part = post_processor or {}
    if part.get("type") in ("BertProcessing", "RobertaProcessing"):
        return [part["cls"][1]], [part["sep"][1]]
    before, after = [], []
    if part.get("type") == "Sequence":
        for step in part["processors"]:
            first, last = frame(step)
            before, after = first + before, after + last
    side = before
    for item in part.get("single", []):
        if "Sequence" in item:
            side = after
        else:
            side.extend(part["special_tokens"][item["SpecialToken"]["id"]]["ids"])
    return before, after


def added_token(row: int, name: str, *, special: bool = True, **flags: bool) -> dict:
    """A row of `added_tokens`; `flags`: single_word, lstrip, rstrip, normalized."""
    token = {"id": row, "content": name, "single_word": False, "lstrip": False, "rstrip": False}
    return token | {"normalized": False, "special": special} | flags


def all_added_tokens(
    tokens: list[dict], vocabulary: dict[str, int], settings: Settings, place: str
) -> list[dict]:
    """The `added_tokens` of a tokenizer: those given, and those that the folder adds.

    Args:
        tokens: the special tokens that the kind of tokenizer knows by itself.
        vocabulary: the model's tokens and ids.
        settings: of the folder; its flags win.
        place: what errors call the file.

    Raises:
        UserError: if an added token would not get the id that the folder gives it.
    """
    found = {token["content"]: token for token in tokens}
    for name, row in sorted(settings.added.items(), key=lambda item: item[1]):
        found.setdefault(name, added_token(row, name, special=False, normalized=True))
    for row, flags in (settings.options.get("added_tokens_decoder") or {}).items():
        kept = {flag: flags[flag] for flag in FLAGS if flag in flags}
        found[flags["content"]] = added_token(int(row), flags["content"], **kept)
    tokens = sorted(found.values(), key=lambda token: token["id"])
    free = len(vocabulary)
    for token in tokens:
        expected = vocabulary.get(token["content"], free)
        if token["id"] != expected:
            raise UserError(
                f"{place}: the added token {token['content']!r} has id {token['id']}, "
                f"but the vocabulary leaves it {expected}; {REMEDY}"
            )
        free += expected == free
    return tokens


def read_text(file: Path) -> str:
    """The text of a tokenizer's file.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); fetch the file again") from None
