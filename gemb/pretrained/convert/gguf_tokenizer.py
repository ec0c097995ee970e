"""tokenizer.json from the vocabulary, merges and scores in a GGUF file."""

import json
from pathlib import Path

from gemb.checks import UserError, suggest

# tokenizer.ggml.token_type
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6
_SPACE = "▁"
_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_files(fields: dict, vocab_size: int, source: Path) -> dict[str, str]:
    """Builds the tokenizer that llama.cpp would run.

    Args:
        fields: {key: value} of the GGUF file.
        vocab_size: rows of the embedding table.
        source: the file, for errors.

    Returns:
        {file name: text} of tokenizer.json and tokenizer_config.json.

    Raises:
        UserError: for a kind of tokenizer that is not known, or a vocabulary that is missing,
            repeats itself or does not fit the embedding table.
    """
    kind = fields.get("tokenizer.ggml.model")
    if kind not in _BUILDERS:
        raise UserError(f"{source}: tokenizer {kind!r} is not known{_remedy(_BUILDERS)}")
    tokens, types = _column(fields, "tokens", source), fields.get("tokenizer.ggml.token_type")
    if not isinstance(types, list) or len(types) != len(tokens):
        types = [1] * len(tokens)
    if len(tokens) != vocab_size or len(set(tokens)) != len(tokens):
        raise UserError(
            f"{source}: {len(tokens)} tokens ({len(set(tokens))} distinct) for an embedding table "
            f"of {vocab_size} rows"
        )
    try:
        tokenizer = _BUILDERS[kind](fields, tokens, types, source)
        _add_special_tokens(tokenizer, fields, tokens, types, kind)
    except UserError:
        raise
    except Exception as error:  # the Rust library raises Exception itself
        raise UserError(f"{source}: its tokenizer is broken ({error})") from None
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token = _special(fields, tokens, key)
        if token is not None:
            config[f"{name}_token"] = token
    if "llama.context_length" in fields:
        config["model_max_length"] = fields["llama.context_length"]
    if "tokenizer.chat_template" in fields:
        config["chat_template"] = fields["tokenizer.chat_template"]
    return {
        "tokenizer.json": tokenizer.to_str(pretty=True),
        "tokenizer_config.json": json.dumps(config, indent=2, ensure_ascii=False) + "\n",
    }


def _byte_level(fields: dict, tokens: list[str], types: list[int], source: Path):
    """GPT-2's byte-level BPE; how texts are cut into words differs from model to model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = fields.get("tokenizer.ggml.pre")
    if (
        words is None
    ):  # GPT-2's cut would be a guess: Llama 3's files of April 2024 lack the key too
        raise UserError(
            f"{source}: tokenizer.ggml.pre is missing, as in files from before May 2024, so that "
            f"nothing says how texts are cut into words{_remedy(())}"
        )
    if words not in _WORDS:
        raise UserError(f"{source}: pre-tokenizer {words!r} is not known{_remedy(_WORDS, words)}")
    merges = [tuple(merge.split(" ")) for merge in _column(fields, "merges", source)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    whole_words = words == "llama-bpe"  # Llama 3 takes a word that is a token without merging
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=whole_words))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(_WORDS[words]())
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _gpt2_words() -> list:
    from tokenizers import pre_tokenizers

    return [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]


def _smollm_words() -> list:
    from tokenizers import pre_tokenizers

    return [pre_tokenizers.Digits(individual_digits=True), *_gpt2_words()]


def _llama3_words() -> list:
    from tokenizers import Regex, pre_tokenizers

    return [
        pre_tokenizers.Split(Regex(_LLAMA3_WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


def _sentencepiece(fields: dict, tokens: list[str], types: list[int], source: Path):
    """SentencePiece's BPE, which has scores where the Rust library wants a list of merges."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    scores = _column(fields, "scores", source)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    unknown = next(
        (token for token, kind in zip(tokens, types, strict=True) if kind == _UNKNOWN), None
    )
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            _merges(tokens, types, scores),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=_BYTE in types,
        )
    )
    spaces = [normalizers.Replace(" ", _SPACE)]
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if fields.get("tokenizer.ggml.add_space_prefix", True):
        spaces.insert(0, normalizers.Prepend(_SPACE))
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _merges(tokens: list[str], types: list[int], scores: list[float]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, best score first: SentencePiece's order."""
    rank = {
        token: (-score, number)
        for number, (token, kind, score) in enumerate(zip(tokens, types, scores, strict=True))
        if kind not in (_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE)
    }
    pairs = [
        (order, token[:cut], token[cut:])
        for token, order in rank.items()
        for cut in range(1, len(token))
        if token[:cut] in rank and token[cut:] in rank
    ]
    return [(left, right) for _, left, right in sorted(pairs, key=lambda pair: pair[0])]


def _add_special_tokens(tokenizer, fields: dict, tokens: list, types: list, kind: str) -> None:
    """Marks control tokens, and puts those round a text that llama.cpp would put there."""
    from tokenizers import AddedToken, processors

    for token, role in zip(tokens, types, strict=True):
        if role in (_UNKNOWN, _CONTROL):
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif role == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    by_default = kind == "llama" or fields.get("tokenizer.ggml.pre") == "llama-bpe"
    sides = {
        "bos": fields.get("tokenizer.ggml.add_bos_token", by_default),
        "eos": fields.get("tokenizer.ggml.add_eos_token", False),
    }
    added = {side: _special(fields, tokens, side) if on else None for side, on in sides.items()}
    template = [added["bos"], "$A", added["eos"]]
    if template != [None, "$A", None]:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[part for part in template if part],
            pair=[part for part in (*template, template[0], "$B", template[2]) if part],
            special_tokens=[(token, tokens.index(token)) for token in added.values() if token],
        )


def _special(fields: dict, tokens: list[str], key: str) -> str | None:
    number = fields.get(f"tokenizer.ggml.{key}_token_id")
    return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None


def _column(fields: dict, name: str, source: Path) -> list:
    values = fields.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list) or not values:
        raise UserError(f"{source}: holds no tokenizer {name}{_remedy(())}")
    return values


def _remedy(known, word: str = "") -> str:
    listed = f" (known: {', '.join(known)})" if known else ""
    return f"{listed};{suggest(word, known)} give the model's own with --tokenizer=tokenizer.json"


_BUILDERS = {"gpt2": _byte_level, "llama": _sentencepiece}
_WORDS = {"gpt-2": _gpt2_words, "smollm": _smollm_words, "llama-bpe": _llama3_words}
