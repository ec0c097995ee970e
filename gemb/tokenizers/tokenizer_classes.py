"""The tokenizer classes of transformers: which one reads a folder, and what it builds by itself.

transformers 5 takes only the vocabulary, the merges and the post-processor from tokenizer.json
where a class has its own rules. The rest comes from the class and from tokenizer_config.json.
`gemb.tokenizers.class_rules` applies what is listed here.
"""

import dataclasses
from collections.abc import Callable

from gemb.checks import UserError
from gemb.tokenizers.tokenizer_json import QWEN2_WORDS

# Model types whose folders are read by one class, whatever class tokenizer_config.json names.
_FORCED = {"qwen2": "Qwen2Tokenizer", "modernbert": "", "mistral": ""}
_BY_MODEL_TYPE = {
    "bert": "BertTokenizer", "distilbert": "BertTokenizer", "electra": "BertTokenizer",
    "nomic_bert": "BertTokenizer", "mpnet": "MPNetTokenizer", "roberta": "RobertaTokenizer",
    "longformer": "RobertaTokenizer", "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer", "t5": "T5Tokenizer", "mt5": "T5Tokenizer",
    "gpt2": "GPT2Tokenizer", "qwen3": "Qwen2Tokenizer", "gemma": "GemmaTokenizer",
    "gemma2": "GemmaTokenizer", "gemma3": "GemmaTokenizer", "gemma3_text": "GemmaTokenizer",
} | _FORCED  # fmt: skip
_ALIASES = {
    "DistilBertTokenizer": "BertTokenizer", "ElectraTokenizer": "BertTokenizer",
    "LongformerTokenizer": "RobertaTokenizer", "BartTokenizer": "RobertaTokenizer",
}  # fmt: skip
# Classes with rules of their own that gemb does not follow.
_OTHERS = frozenset(
    f"{name}Tokenizer"
    for name in (
        "Albert", "Barthez", "Bartpho", "BertGeneration", "BertJapanese", "Bertweet", "BigBird",
        "BioGpt", "Blenderbot", "BlenderbotSmall", "ByT5", "CLIP", "CTRL", "Canine", "CodeGen",
        "CodeLlama", "Cohere", "Cpm", "CpmAnt", "DPRQuestionEncoder", "DPRContextEncoder",
        "Deberta", "DebertaV2", "Esm", "Esmc", "FNet", "FSMT", "Flaubert", "Funnel", "GPTNeoX",
        "GPTNeoXJapanese", "GPTSw3", "Herbert", "LED", "LayoutLMv2", "LayoutLMv3", "LayoutXLM",
        "Luke", "Lxmert", "M2M100", "MBart", "MBart50", "MLuke", "Marian", "MarkupLM", "Mgpstr",
        "MobileBert", "Mvp", "MyT5", "Nllb", "Nougat", "OpenAIGPT", "PLBart", "Pegasus",
        "Perceiver", "Phobert", "ProphetNet", "Qwen3_5", "Reformer", "RemBert", "RoCBert",
        "RoFormer", "SeamlessM4T", "Siglip", "Siglip2", "Splinter", "Tapas", "Udop", "Vits",
        "Wav2Vec2CTC", "Whisper", "XGLM", "XLM", "XLNet",
    )
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TokenizerClass:
    """What a class of transformers builds by itself.

    Attributes:
        model: the kind of model that it makes of the vocabulary; "" for the class that takes
            tokenizer.json as it is.
        tokens: {role: token} that it has where the folder names none.
        parts: options of tokenizer_config.json, with the tokens filled in, and the vocabulary ->
            the model's settings, the normalizer and the pre-tokenizer.
        around: roles of the tokens before and after a text; None where tokenizer.json says it.
        left_strip: whether its mask token takes the space before it.
        extra: options -> names of further special tokens, where the folder names none.
        again: whether it adds all special tokens once more, without their flags.
    """

    model: str = ""
    tokens: dict[str, str | None] = dataclasses.field(default_factory=dict)
    parts: Callable[[dict, list | dict], tuple] | None = None
    around: tuple[str, str] | tuple[str] | None = None
    left_strip: bool = False
    extra: Callable[[dict], list[str]] = lambda options: []
    again: bool = False


def tokenizer_class(name: str, model_type: str, byte_level: bool) -> str:
    """The class that AutoTokenizer takes, as a name in CLASSES.

    Args:
        name: what tokenizer_config.json or, failing that, config.json names; or "".
        model_type: of config.json; "" where there is none.
        byte_level: whether tokenizer.json holds a byte-level part.

    Raises:
        UserError: for a class whose rules gemb does not follow.
    """
    name = (name or "").removesuffix("Fast")
    known = _ALIASES.get(name, name)
    if model_type in _FORCED:
        return _FORCED[model_type]
    if known == "LlamaTokenizer" and byte_level:
        return ""
    if known in _OTHERS:
        raise UserError(
            f"tokenizer_class {name!r} has rules of its own, which gemb does not follow"
        )
    if not known:
        return _BY_MODEL_TYPE.get(model_type, "")
    return known if known in CLASSES else ""


def _lower_bert(options: dict, vocabulary) -> tuple:
    model = {
        "unk_token": options["unk_token"],
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": options.get("tokenize_chinese_chars", True),
        "strip_accents": options.get("strip_accents"),
        "lowercase": options.get("do_lower_case", True),
    }
    return model, normalizer, {"type": "BertPreTokenizer"}


def _bpe(**settings) -> dict:
    plain = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    plain |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False}
    return plain | {"ignore_merges": False} | settings


def _byte_level(options: dict, vocabulary) -> tuple:
    return _bpe(), None, byte_level(bool(options.get("add_prefix_space", False)))


def _qwen2(options: dict, vocabulary) -> tuple:
    words = byte_level(bool(options.get("add_prefix_space")), use_regex=False)
    return _bpe(), {"type": "NFC"}, qwen2_words(words)


def byte_level(add_prefix_space: bool, use_regex: bool = True) -> dict:
    """A byte-level pre-tokenizer."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def qwen2_words(words: dict) -> dict:
    """Qwen2's pre-tokenizer: its cut into words, then bytes."""
    split = {"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated"}
    return {"type": "Sequence", "pretokenizers": [split | {"invert": False}, words]}


def _llama(options: dict, vocabulary) -> tuple:
    prefix = options.get("add_prefix_space")
    scheme = "always" if options.get("legacy", False) else "first"
    scheme = "never" if prefix is not None and not prefix else scheme
    return _bpe(fuse_unk=True, byte_fallback=True), None, _metaspace(scheme, split=False)


def _gemma(options: dict, vocabulary) -> tuple:
    model = _bpe(fuse_unk=True, byte_fallback=True, unk_token=options["unk_token"])
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}
    normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return model, normalizer, split | {"invert": False}


def _metaspace(scheme: str, split: bool = True) -> dict:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def _unigram(unknown: Callable[[dict, list], int], optional: bool = True):
    """The parts of a class over SentencePiece's unigrams; `unknown` finds the unknown token."""

    def parts(options: dict, vocabulary) -> tuple:
        prefix = options.get("add_prefix_space", True) if optional else True
        steps = [{"type": "WhitespaceSplit"}, _metaspace("always" if prefix else "never")]
        model = {"unk_id": unknown(options, vocabulary), "byte_fallback": False}
        return model, options.get("charsmap"), {"type": "Sequence", "pretokenizers": steps}

    return parts


def _find_unknown(options: dict, vocabulary) -> int:
    names = [name for name, _ in vocabulary]
    return names.index(options["unk_token"]) if options["unk_token"] in names else 0


def _sentinels(options: dict) -> list[str]:
    return [f"<extra_id_{number}>" for number in range(options.get("extra_ids", 100))]


_END = "<|endoftext|>"
_BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_ROBERTA = {
    "bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>",
    "mask": "<mask>",
}  # fmt: skip
_GEMMA = {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
CLASSES = {
    "": TokenizerClass(),
    "BertTokenizer": TokenizerClass("WordPiece", _BERT, _lower_bert, ("cls", "sep")),
    "MPNetTokenizer": TokenizerClass(
        "WordPiece", _ROBERTA | {"unk": "[UNK]"}, _lower_bert, ("cls", "sep"), left_strip=True
    ),
    "RobertaTokenizer": TokenizerClass("BPE", _ROBERTA, _byte_level, ("cls", "sep")),
    "XLMRobertaTokenizer": TokenizerClass(
        "Unigram", _ROBERTA, _unigram(lambda options, vocabulary: 3), ("bos", "eos")
    ),
    "CamembertTokenizer": TokenizerClass(
        "Unigram", _ROBERTA, _unigram(_find_unknown), ("bos", "eos"), left_strip=True,
        extra=lambda options: ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"],
    ),
    "T5Tokenizer": TokenizerClass(
        "Unigram", {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"},
        _unigram(lambda options, vocabulary: 2, optional=False), ("", "eos"), extra=_sentinels,
    ),
    "GPT2Tokenizer": TokenizerClass(
        "BPE", {"unk": _END, "bos": _END, "eos": _END, "pad": None}, _byte_level
    ),
    "Qwen2Tokenizer": TokenizerClass(
        "BPE", {"unk": _END, "bos": None, "eos": _END, "pad": _END}, _qwen2, again=True
    ),
    "LlamaTokenizer": TokenizerClass(
        "BPE", {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}, _llama
    ),
    "GemmaTokenizer": TokenizerClass("BPE", _GEMMA, _gemma),
}  # fmt: skip
