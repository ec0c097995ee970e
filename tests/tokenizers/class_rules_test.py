"""tokenizer_config.json over tokenizer.json: the ids of transformers' AutoTokenizer, or a refusal.

Each test writes a small folder, edits one thing in it and compares the ids of many texts.
"""

import json
import random
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from gemb.checks import UserError
from gemb.tokenizers.tokenizer import Tokenizer
from gemb.tokenizers.tokenizer_files import read_tokenizer

LONG = 1 << 20
CORPUS = [
    "The quick brown fox jumps over the lazy dog, again and again.",
    "It was the best of times, it was the worst of times; We'LL see 12345 of it.",
    "Naïve café ünïcödé über ALLES, Ａ１ ﬁ ½ 日本語のテキスト",
    "def add(first, second):\n    return first + second",
] * 3
WORDS = [
    "the", "The", "FOX", "again", "café", "Naïve", "日本", "語", "ﬁ", "it's", "12", " ", "  ", "\t",
    "\n", ",", "[SEP]", "[MASK]", "[CLS]", "<s>", "</s>", "<mask>", "<unk>", "[UNK]", "<pad>",
    "<|endoftext|>", "<extra_id_1>", "<new>", "<New>", "best", "<s>NOTUSED", "<eos>", "🙂", "▁a",
    "e\u0301", "x" * 101,
]  # fmt: skip
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
T5 = ["<pad>", "</s>", "<unk>", *(f"<extra_id_{number}>" for number in range(100))]


def texts(count: int = 80) -> list[str]:
    draw = random.Random(3)
    joined = [" ".join(draw.choices(WORDS, k=draw.randint(0, 7))) for _ in range(count // 2)]
    glued = ["".join(draw.choices(WORDS, k=draw.randint(0, 7))) for _ in range(count // 2)]
    return [*joined, *glued, *CORPUS[:4]]


def train(tokenizer, trainer, special: list[str], **options) -> dict:
    tokenizer.train_from_iterator(
        CORPUS, trainer(special_tokens=special, show_progress=False, vocab_size=400, **options)
    )
    return json.loads(tokenizer.to_str())


def around(content: dict, before: str, after: str) -> dict:
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    made = processors.TemplateProcessing(
        single=" ".join(filter(None, (before, "$A", after))),
        special_tokens=[(name, ids[name]) for name in (before, after) if name],
    )
    tokenizer = tokenizers.Tokenizer(models.BPE({}, []))
    tokenizer.post_processor = made
    return content | {"post_processor": json.loads(tokenizer.to_str())["post_processor"]}


def wordpiece(special: list[str], start: int, end: int) -> dict:
    tokenizer = tokenizers.Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    content = train(tokenizer, trainers.WordPieceTrainer, special)
    return around(content, special[start], special[end])


def byte_level(special: list[str], start: str = "", end: str = "") -> dict:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    content = train(tokenizer, trainers.BpeTrainer, special, initial_alphabet=alphabet)
    return around(content, start, end) if start or end else content


def unigram(special: list[str], start: str, end: str) -> dict:
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    content = train(tokenizer, trainers.UnigramTrainer, special, unk_token="<unk>")
    return around(content, start, end)


def bytes_of_pieces(special: list[str], start: str) -> dict:
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    content = train(tokenizer, trainers.BpeTrainer, special)
    return around(content, start, "")


# name: (model type, class, tokenizer.json)
FOLDERS = {
    "bert": ("bert", "BertTokenizer", lambda: wordpiece(BERT, 2, 3)),
    "distilbert": ("distilbert", "DistilBertTokenizerFast", lambda: wordpiece(BERT, 2, 3)),
    "nomic": ("nomic_bert", "BertTokenizer", lambda: wordpiece(BERT, 2, 3)),
    "mpnet": ("mpnet", "MPNetTokenizer", lambda: wordpiece(["<s>", "<pad>", "</s>", "[UNK]",
              "<mask>"], 0, 2)),
    "bert, generic": ("bert", "PreTrainedTokenizerFast", lambda: wordpiece(BERT, 2, 3)),
    "bert, unnamed": ("bert", None, lambda: wordpiece(BERT, 2, 3)),
    "roberta": ("roberta", "RobertaTokenizerFast", lambda: byte_level(FAIRSEQ, "<s>", "</s>")),
    "xlm-roberta": ("xlm-roberta", "XLMRobertaTokenizer", lambda: unigram(FAIRSEQ, "<s>", "</s>")),
    "camembert": ("camembert", "CamembertTokenizer", lambda: unigram(
        ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>", "<mask>"],
        "<s>", "</s>")),
    "t5": ("t5", "T5Tokenizer", lambda: unigram(T5, "", "</s>")),
    "gpt2": ("gpt2", "GPT2Tokenizer", lambda: byte_level(["<|endoftext|>"])),
    "qwen3": ("qwen3", "Qwen2Tokenizer", lambda: byte_level(["<|endoftext|>"], "",
              "<|endoftext|>")),
    "qwen2, generic": ("qwen2", "PreTrainedTokenizerFast", lambda: byte_level(["<|endoftext|>"])),
    "llama": ("llama", "LlamaTokenizer", lambda: bytes_of_pieces(["<unk>", "<s>", "</s>"], "<s>")),
    "llama 3": ("llama", "LlamaTokenizerFast", lambda: byte_level(["<s>", "</s>"], "<s>")),
    "mistral": ("mistral", "LlamaTokenizer", lambda: bytes_of_pieces(["<unk>", "<s>", "</s>"],
                "<s>")),
    "gemma": ("gemma2", "GemmaTokenizer", lambda: bytes_of_pieces(
        ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"], "<bos>")),
    "modernbert": ("modernbert", "PreTrainedTokenizerFast", lambda: byte_level(
        ["[CLS]", "[SEP]", "[MASK]"], "[CLS]", "[SEP]")),
}  # fmt: skip


def flagged(content: str, **flags) -> dict:
    plain = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized", "special"), False)
    return {"content": content} | plain | flags


def config(**options):
    """An edit of tokenizer_config.json."""
    return lambda files: files["tokenizer_config.json"].update(options)


def file(name: str, **content):
    """An edit of another file."""
    return lambda files: files.setdefault(name, {}).update(content)


def list_added(*tokens, every: bool = True):
    """added_tokens_decoder: the file's own tokens, if `every`, and new ones behind the others."""

    def edit(files):
        content = files["tokenizer.json"]
        free = max(
            len(content["model"]["vocab"]), *(1 + token["id"] for token in content["added_tokens"])
        )
        own = {str(token["id"]): dict(token) for token in content["added_tokens"] if every}
        for token in own.values():
            token.pop("id")
        new = {str(free + number): token for number, token in enumerate(tokens)}
        files["tokenizer_config.json"]["added_tokens_decoder"] = own | new

    return edit


EDITS = {
    "nothing": lambda files: None,
    "cased": config(do_lower_case=False),
    "lower": config(do_lower_case=True),
    "accents": config(strip_accents=True),
    "accents stay": config(strip_accents=False),
    "chinese": config(tokenize_chinese_chars=False),
    "prefix": config(add_prefix_space=True),
    "no prefix": config(add_prefix_space=False),
    "start": config(add_bos_token=True),
    "no start": config(add_bos_token=False),
    "end": config(add_eos_token=True),
    "split special tokens": config(split_special_tokens=True),
    "cut left": config(truncation_side="left"),
    "pad left": config(padding_side="left"),
    "legacy": config(legacy=True),
    "not legacy": config(legacy=False),
    "new token": list_added(flagged("<new>", special=True)),
    "new plain token": list_added(flagged("<new>", normalized=True)),
    "new token that strips": list_added(flagged("<new>", lstrip=True, rstrip=True)),
    "new word": list_added(flagged("best", single_word=True)),
    "only the new token": list_added(flagged("<new>", special=True), every=False),
    "two new tokens": list_added(flagged("<new>"), flagged("<New>", special=True)),
    "extra token": config(additional_special_tokens=["<new>"]),
    "extra tokens, newly named": config(extra_special_tokens=["<new>", "the"]),
    "extra tokens by name": config(extra_special_tokens={"image_token": "<new>"}),
    "token of another kind": config(image_token="<new>"),
    "another mask": config(mask_token="<new>"),
    "another start": config(cls_token="<mask>", bos_token="<mask>"),
    "another end": config(sep_token="the", eos_token="the"),
    "another unknown": config(unk_token="<mask>"),
    "no mask": config(mask_token=None),
    "no padding": config(pad_token=None),
    "mask with flags": config(mask_token=flagged("<mask>", lstrip=True) | {"__type": "AddedToken"}),
    "old map": file("special_tokens_map.json", mask_token=flagged("<new>", lstrip=True)),
    "old map, extra": file("special_tokens_map.json", additional_special_tokens=["<new>"]),
    "old added": lambda files: files.update({"added_tokens.json": {"<new>": 400}}),
    "class by config.json": lambda files: files["config.json"].update(
        tokenizer_class=files["tokenizer_config.json"].pop("tokenizer_class", None)
    ),
    "no class": lambda files: files["tokenizer_config.json"].pop("tokenizer_class", None),
    "no tokenizer_config.json": lambda files: files.pop("tokenizer_config.json"),
    "generic class": config(tokenizer_class="PreTrainedTokenizerFast"),
    "generic, slow": config(tokenizer_class="PreTrainedTokenizer"),
    "its new name": config(tokenizer_class="TokenizersBackend"),
    "unheard of": config(tokenizer_class="OurOwnTokenizer"),
    "no post-processor": file("tokenizer.json", post_processor=None),
    "no normalizer": file("tokenizer.json", normalizer=None),
    "lower by file": file("tokenizer.json", normalizer={"type": "Lowercase"}),
    "white space": file("tokenizer.json", pre_tokenizer={"type": "WhitespaceSplit"}),
    "cut left by file": file("tokenizer.json", truncation={
        "direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}),
    "cut right over left": lambda files: (
        files["tokenizer.json"].update(truncation={
            "direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0}),
        files["tokenizer_config.json"].update(truncation_side="right"),
    ),
    "padded by file": file("tokenizer.json", padding={
        "strategy": {"Fixed": 32}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<pad>"}),
    "fewer sentinels": config(extra_ids=3),
    "spaces cleaned": config(clean_up_tokenization_spaces=True),
}  # fmt: skip
# In the default suite: what published folders have most often.
COMMON = ("nothing", "cased", "lower", "new token", "no post-processor", "cut left",
          "split special tokens", "no class", "generic class", "prefix")  # fmt: skip


def write(folder: Path, name: str, edit) -> Path:
    folder.mkdir(exist_ok=True)
    kind, class_name, make = FOLDERS[name]
    files = {
        "tokenizer.json": made(name, make),
        "config.json": {"model_type": kind},
        "tokenizer_config.json": {"tokenizer_class": class_name} if class_name else {},
    }
    (edit if callable(edit) else EDITS[edit])(files)
    for place, content in files.items():
        (folder / place).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


_MADE = {}


def made(name: str, make) -> dict:
    if name not in _MADE:
        _MADE[name] = json.dumps(make())
    return json.loads(_MADE[name])


def reference(folder: Path, length: int | None) -> list[list[int]] | None:
    """The ids of transformers; None where it fails on the folder."""
    import transformers

    transformers.logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        limit = {} if length is None else {"truncation": True, "max_length": length}
        return tokenizer(texts(), **limit)["input_ids"]
    except Exception:
        return None


def compare(folder: Path) -> None:
    """Compares whole and cut texts; where transformers fails, anything is right."""
    if reference(folder, None) is None:
        return
    text = read_tokenizer(folder)
    for length in (LONG, 9):
        ids = Tokenizer(text, length).encode(texts())
        for got, right, source in zip(ids, reference(folder, length), texts(), strict=True):
            assert got == right, source
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    assert read_tokenizer(folder) == text, "a saved folder would get another fingerprint"


@pytest.mark.peers
@pytest.mark.parametrize("name", FOLDERS)
def test_ids_equal_transformers(name, tmp_path):
    pytest.importorskip("transformers")
    for edit in COMMON:
        compare(write(tmp_path / edit, name, edit))


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", FOLDERS)
def test_every_edit_gives_the_ids_of_transformers(name, edit, tmp_path):
    pytest.importorskip("transformers")
    compare(write(tmp_path, name, edit))


@pytest.mark.parametrize("edit", ["nothing", "generic class", "unheard of"])
def test_text_stays_as_it_is_where_no_id_changes(edit, tmp_path):
    """A model's fingerprint is made of it."""
    for name in ("bert, generic", "roberta", "gpt2", "modernbert", "llama 3"):
        folder = write(tmp_path / name, name, edit)
        assert read_tokenizer(folder) == (folder / "tokenizer.json").read_text(), name


def test_a_token_of_the_class_without_a_row_is_left_out(tmp_path):
    folder = write(tmp_path, "t5", "nothing")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = content["added_tokens"][:3]
    content["model"]["vocab"] = [
        item for item in content["model"]["vocab"] if "<extra_id_" not in item[0]
    ]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    size = len(content["model"]["vocab"])
    assert Tokenizer(read_tokenizer(folder), LONG).vocab == size + 100
    assert Tokenizer(read_tokenizer(folder, rows=size + 3), LONG).vocab == size + 3
    assert Tokenizer(read_tokenizer(folder, rows=size), LONG).vocab == size


def test_a_token_that_the_class_adds_twice_is_left_out_too(tmp_path):
    folder = write(tmp_path, "qwen2, generic", "nothing")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = []
    names = [name for name in content["model"]["vocab"] if name != "<|endoftext|>"]
    content["model"]["vocab"] = {name: number for number, name in enumerate(names)}
    generic = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(generic))
    (folder / "tokenizer.json").write_text(json.dumps(content))
    size = len(content["model"]["vocab"])
    assert Tokenizer(read_tokenizer(folder), LONG).vocab > size
    assert Tokenizer(read_tokenizer(folder, rows=size), LONG).vocab == size


WRONG = {
    "a class of its own rules": ("bert", config(tokenizer_class="DebertaV2TokenizerFast"),
                                 "tokenizer_class 'DebertaV2Tokenizer' has rules of its own"),
    "another model": ("gpt2", config(tokenizer_class="BertTokenizer"),
                      "BertTokenizer needs a WordPiece model, the file's is BPE"),
    "side": ("bert", config(truncation_side="middle"), "truncation_side is 'left' or 'right'"),
    "class": ("bert", config(tokenizer_class=3), "expected the name of a class, got 3"),
    "token": ("bert", config(mask_token=3), "mask_token: expected a token, got 3"),
    "extra": ("bert", config(extra_special_tokens="x"), "expected a list, got 'x'"),
    "no cls": ("bert", config(cls_token=None), "cls_token is null, and its class needs one"),
    "decoder": ("bert", config(added_tokens_decoder=[1]), "does not fit it"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_cannot_be_followed_are_refused(name, tmp_path):
    folder, edit, message = WRONG[name]
    write(tmp_path, folder, edit)
    with pytest.raises(UserError, match=message) as error:
        read_tokenizer(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
