"""Tokenizer files of all kinds against the libraries that wrote them, and files that are broken."""

import io
import json
import random
from pathlib import Path

import pytest
import sentencepiece
import tokenizers

from gemb.checks import UserError
from gemb.tokenizers.tokenizer import Tokenizer
from gemb.tokenizers.tokenizer_files import read_tokenizer

LONG = 1 << 30
CORPUS = [
    "The quick brown fox jumps over the lazy dog, again and again.",
    "It was the best of times, it was the worst of times; it was the age of wisdom.",
    "def add(first, second):\n    return first + second  # 12,345",
    "Naïve café — ünïcödé, 日本語のテキスト, Ａ１ ﬁ ½",
    "aaaa aaa aa a bbb bb abab baba abba === ==== -- --- ....",
] * 4
ALPHABET = [
    *"ab =-.é▁日ＡX", " ", "  ", "the ", " again", "\t", "e\u0301", "ﬁ", "🙂", "12", "▁▁", "\x00",
    "<s>", "</s>", "<unk>", "<sym>", "<sym", "<0x41>",
]  # fmt: skip
PLAIN = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
TRAINED = {
    "unigram": {"model_type": "unigram"},
    "unigram, plain": {"model_type": "unigram", **PLAIN},
    "unigram, bytes": {"model_type": "unigram", "byte_fallback": True},
    "unigram, symbols": {"model_type": "unigram", "user_defined_symbols": "<sym>,▁▁,aa"},
    "unigram, suffix": {"model_type": "unigram", "treat_whitespace_as_suffix": True},
    "bpe": {"model_type": "bpe"},
    "bpe, plain": {"model_type": "bpe", **PLAIN},
    "bpe, bytes": {"model_type": "bpe", "byte_fallback": True, "split_digits": True, **PLAIN},
    "bpe, one space": {"model_type": "bpe", "normalization_rule_name": "identity"},
    "bpe, no prefix": {"model_type": "bpe", "add_dummy_prefix": False, **PLAIN},
    "bpe, symbols": {"model_type": "bpe", "user_defined_symbols": "<sym>,aa", **PLAIN},
    "bpe, gemma": {
        "model_type": "bpe", "add_dummy_prefix": False, "byte_fallback": True, **PLAIN,
        "user_defined_symbols": "<sym>,▁▁,▁▁▁,\t", "control_symbols": "<turn>",
    },
    "bpe, suffix": {"model_type": "bpe", "treat_whitespace_as_suffix": True, **PLAIN},
}  # fmt: skip
BY_RUST = {"bpe, plain", "bpe, bytes", "bpe, one space", "bpe, no prefix", "bpe, gemma"}


def trained(**options) -> bytes:
    """A small .model file, by SentencePiece's own trainer."""
    model = io.BytesIO()
    sizes = {"vocab_size": 400, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, **sizes | options
    )
    return model.getvalue()


def bpe(**options) -> bytes:
    """A byte-pair model; its trainer needs a size that the corpus has pieces for."""
    size = 160 + 256 * options.get("byte_fallback", False)
    return trained(**{"model_type": "bpe", "vocab_size": size} | options)


def random_texts(count: int) -> list[str]:
    draw = random.Random(7)
    return ["".join(draw.choices(ALPHABET, k=draw.randint(0, 25))) for _ in range(count)]


def edited(model: bytes, edit) -> bytes:
    """The model after `edit` of its protocol buffer: what no option of the trainer gives."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    edit(proto)
    return proto.SerializeToString()


def write(folder: Path, name: str, content, **configs) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for config, values in configs.items():
        (folder / f"{config}.json").write_text(json.dumps(values))
    return folder


def assert_equals_sentencepiece(model: bytes, folder: Path) -> bool:
    """Compares on random texts; returns whether Rust did the encoding."""
    write(folder, "tokenizer.model", model)
    text = read_tokenizer(folder)
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = Tokenizer(text, LONG).encode(texts := random_texts(3000))
    for got, expected, source in zip(ids, reference.encode(texts), texts, strict=True):
        assert got == expected, source
    return "sentencepiece" not in json.loads(text)["model"]


@pytest.mark.parametrize("name", TRAINED)
def test_ids_equal_sentencepiece(name, tmp_path):
    options = TRAINED[name]
    model = (bpe if options["model_type"] == "bpe" else trained)(**options)
    assert assert_equals_sentencepiece(model, tmp_path) == (name in BY_RUST)


def test_unescaped_spaces_unused_pieces_and_ties(tmp_path):
    def unescaped(proto):
        proto.normalizer_spec.escape_whitespaces = False

    def unused(proto):
        next(piece for piece in proto.pieces if piece.piece == "▁the").type = 5

    def tied(proto):
        for piece in proto.pieces[3:60]:
            piece.score = -5.0

    plain = bpe(**PLAIN)
    assert assert_equals_sentencepiece(plain, tmp_path)
    for edit in (unescaped, unused, tied):
        assert not assert_equals_sentencepiece(edited(plain, edit), tmp_path)


def test_runs_of_spaces_with_equal_scores(tmp_path):
    """Llama's and Mistral's models have such: all runs share one score."""

    def runs(proto):
        known = {piece.piece for piece in proto.pieces}
        for length in (1, 2, 4, 8, 5, 16, 6, 12, 13, 10, 14, 3, 9, 7, 11):
            if (run := "▁" * length) in known:
                next(piece for piece in proto.pieces if piece.piece == run).score = -1e9
            else:
                proto.pieces.add(piece=run, score=-1e9, type=1)

    model = edited(bpe(byte_fallback=True, **PLAIN), runs)
    assert assert_equals_sentencepiece(model, tmp_path)
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    texts = [end + " " * count + end for count in range(80) for end in ("", "a", "\n")]
    assert Tokenizer(read_tokenizer(tmp_path), LONG).encode(texts) == reference.encode(texts)


def test_rust_half_reads_alone(tmp_path):
    """Other tools overlook what gemb adds to tokenizer.json and get SentencePiece's ids mostly."""
    for model in (trained(), bpe(**PLAIN)):
        text = read_tokenizer(write(tmp_path, "tokenizer.model", model))
        reference = sentencepiece.SentencePieceProcessor(model_proto=model)
        rust = tokenizers.Tokenizer.from_str(text)
        assert [rust.encode(line).ids for line in CORPUS[:3]] == reference.encode(CORPUS[:3])
        assert rust.decode(rust.encode(CORPUS[0]).ids) == CORPUS[0]


FAMILIES = {
    "llama": ({"model_type": "llama"}, {}, [1], []),
    "mistral with an end": ({"model_type": "mistral"}, {"add_eos_token": True}, [1], [2]),
    "gemma": ({"model_type": "gemma2"}, {"tokenizer_class": "PreTrainedTokenizerFast"}, [1], []),
    "no start": ({"model_type": "llama"}, {"add_bos_token": False}, [], []),
    "t5": ({"model_type": "t5"}, {}, [], [2]),
    "class goes first": (
        {"model_type": "bert"},
        {"tokenizer_class": "LlamaTokenizerFast"},
        [1],
        [],
    ),
    "nothing said": ({}, {}, [], []),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_special_tokens_of_families(name, tmp_path):
    config, options, before, after = FAMILIES[name]
    for model in (trained(), bpe(**PLAIN)):
        write(tmp_path, "spiece.model", model, config=config, tokenizer_config=options)
        reference = sentencepiece.SentencePieceProcessor(model_proto=model)
        expected = [before + ids + after for ids in reference.encode(CORPUS)]
        assert Tokenizer(read_tokenizer(tmp_path), LONG).encode(CORPUS) == expected


def test_fairseq_numbers(tmp_path):
    """Ids of XLM-RoBERTa: <s> 0, <pad> 1, </s> 2, <unk> 3, pieces one up, <mask> last."""
    model = trained()
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    write(tmp_path, "sentencepiece.bpe.model", model, config={"model_type": "xlm-roberta"})
    tokenizer = Tokenizer(read_tokenizer(tmp_path), LONG)
    expected = [
        [0, *(3 if i == 0 else i + 1 for i in ids), 2]
        for ids in reference.encode(random_texts(200))
    ]
    assert tokenizer.encode(random_texts(200)) == expected
    assert tokenizer.vocab == reference.get_piece_size() + 2
    assert tokenizer.padding == 1


def test_sentinels_and_added_tokens(tmp_path):
    model = trained()
    size = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
    for kind, options, extra in [("t5", {}, 100), ("t5", {"extra_ids": 7}, 7), ("mt5", {}, 0)]:
        config = {"model_type": kind}
        write(tmp_path, "spiece.model", model, config=config, tokenizer_config=options)
        assert Tokenizer(read_tokenizer(tmp_path), LONG).vocab == size + extra
    added = {str(size): {"content": "<pad>", "special": True}}
    write(tmp_path, "spiece.model", model, config={"model_type": "llama"})
    write(tmp_path, "spiece.model", model, tokenizer_config={"added_tokens_decoder": added})
    assert Tokenizer(read_tokenizer(tmp_path), LONG).padding == size
    added = {str(size + 5): {"content": "<pad>", "special": True}}
    write(tmp_path, "spiece.model", model, tokenizer_config={"added_tokens_decoder": added})
    with pytest.raises(UserError, match=f"'<pad>' has id {size + 5}, .* leaves it {size}"):
        read_tokenizer(tmp_path)


def vocabulary_folder(folder: Path, special: list[str]) -> Path:
    """vocab.json and merges.txt, by the Rust library's own trainer."""
    folder.mkdir()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.model.save(str(folder))
    return folder


BYTE_LEVEL = {
    "roberta": ("RobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], {}),
    "roberta, prefix": (
        "RobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], {"add_prefix_space": True}
    ),
    "roberta, mask": ("RobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], {
        "mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True},
    }),
    "gpt2": ("GPT2Tokenizer", ["<|endoftext|>"], {}),
    "qwen2": ("Qwen2Tokenizer", ["<|endoftext|>"], {}),
    "qwen2, added": ("Qwen2Tokenizer", ["<|endoftext|>"], {"added_tokens_decoder": {
        "400": {"content": "<|im_end|>", "special": True, "normalized": False},
        "401": {"content": "<tool>", "special": False, "normalized": False, "lstrip": True},
    }}),
}  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_equals_transformers(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    kind, special, options = BYTE_LEVEL[name]
    folder = vocabulary_folder(tmp_path / "model", special)
    options = options | {"tokenizer_class": kind}
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    size = len(json.loads((folder / "vocab.json").read_text()))
    assert size == 400
    reference = getattr(transformers, kind).from_pretrained(folder)
    texts = random_texts(1000) + CORPUS
    texts += [
        "a <mask> b",
        "<|endoftext|>a",
        "x  <|im_end|> y",
        "x  <tool> y",
        "x  <mask>",
        "it's We'LL 123",
    ]
    expected = reference(texts)["input_ids"]
    assert Tokenizer(read_tokenizer(folder), LONG).encode(texts) == expected


WORDPIECE = {
    "bert": ("BertTokenizer", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], {}),
    "cased": ("BertTokenizer", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], {
        "do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False,
    }),
    "mpnet": ("MPNetTokenizer", ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"], {}),
    "other names": ("BertTokenizer", ["<pad>", "<unk>", "<b>", "<e>", "[MASK]"], {
        "cls_token": "<b>", "sep_token": "<e>", "unk_token": "<unk>", "pad_token": "<pad>",
    }),
}  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize("name", WORDPIECE)
def test_wordpiece_equals_transformers(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    kind, special, options = WORDPIECE[name]
    letters = sorted({sign for text in CORPUS for sign in text if not sign.isspace()})
    words = ["the", "fox", "again", "##ain", "best", "##in", *letters, *(f"##{x}" for x in letters)]
    vocabulary = "\n".join([*special, *words]) + "\n"
    options = options | {"tokenizer_class": kind}
    write(tmp_path / "model", "vocab.txt", vocabulary, tokenizer_config=options)
    reference = getattr(transformers, kind).from_pretrained(tmp_path / "model")
    texts = [*random_texts(1000), *CORPUS, "a [MASK] b", "a <mask> b", "[SEP] </s> <e>", "x" * 101]
    expected = reference(texts)["input_ids"]
    assert Tokenizer(read_tokenizer(tmp_path / "model"), LONG).encode(texts) == expected


def test_tokenizer_json_goes_first_and_stays_as_it_is(tmp_path):
    text = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, [])).to_str(pretty=True) + "\n"
    write(tmp_path, "tokenizer.json", text)
    write(tmp_path, "vocab.txt", "broken")
    assert read_tokenizer(tmp_path) == text


BROKEN = {
    "nothing": ({}, "no tokenizer; expected one of tokenizer.json, tokenizer.model, .*vocab.json"),
    "half a tokenizer.json": ({"tokenizer.json": '{"version":'}, "tokenizer.json: not a tokenizer"),
    "bytes": ({"tokenizer.json": b"\xff\xfe"}, "tokenizer.json: cannot be read"),
    "an empty model": ({"tokenizer.model": b""}, "tokenizer.model: not a SentencePiece model"),
    "a tiktoken file": ({"tokenizer.model": b"IQ== 0\nIg== 1\n"}, "not a SentencePiece .*save"),
    "a pointer": ({"spm.model": b"version https://git-lfs.github.com/spec/v1"}, "not a Sentence"),
    "config": ({"vocab.txt": "a", "config.json": "{"}, "config.json: not JSON"),
    "config list": ({"vocab.txt": "a", "config.json": "[]"}, "config.json: expected an object"),
    "no [CLS]": ({"vocab.txt": "a\n[UNK]\n"}, r"vocab.txt: lacks the special token '\[CLS\]'"),
    "no merges": ({"vocab.json": '{"a": 0}'}, "merges.txt: cannot be read .*fetch"),
    "a wrong merge": (
        {"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\na b c\n"}, "'a b c' is not a merge"
    ),
    "a merge of strangers": (
        {"vocab.json": '{"a": 0}', "merges.txt": "b c\n"}, "vocab.json: not a tokenizer"
    ),
    "vocab.json": ({"vocab.json": "[", "merges.txt": ""}, "vocab.json: not JSON"),
    "another class": (
        {"vocab.txt": "a", "tokenizer_config.json": '{"tokenizer_class": "BertJapaneseTokenizer"}'},
        "no way to read it for BertJapaneseTokenizer .known: BertTokenizer, .*save a tokenizer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders(name, tmp_path):
    files, message = BROKEN[name]
    for file, content in files.items():
        write(tmp_path, file, content)
    with pytest.raises(UserError, match=message) as error:
        read_tokenizer(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_models_that_cannot_be_converted(tmp_path):
    write(tmp_path, "tokenizer.model", trained(model_type="char"))
    with pytest.raises(UserError, match="neither a unigram nor a byte-pair model; save"):
        read_tokenizer(tmp_path)
    write(tmp_path, "tokenizer.model", trained()[:-100])
    with pytest.raises(UserError, match=r"tokenizer.model: not a SentencePiece model"):
        read_tokenizer(tmp_path)
    write(tmp_path, "tokenizer.model", trained(), config={"model_type": "albert"})
    with pytest.raises(UserError, match=r"no way to read it for albert .known: LlamaTokenizer"):
        read_tokenizer(tmp_path)
    write(tmp_path, "tokenizer.model", trained(bos_id=-1), config={"model_type": "llama"})
    with pytest.raises(UserError, match="lacks the start or the end token of llama models"):
        read_tokenizer(tmp_path)
    write(tmp_path, "tokenizer.model", trained(pad_id=3), config={"model_type": "xlm-roberta"})
    read_tokenizer(tmp_path)  # a piece more changes nothing
    model = trained(unk_id=2, eos_id=0)
    write(tmp_path, "tokenizer.model", model, config={"model_type": "xlm-roberta"})
    with pytest.raises(UserError, match="does not begin with <unk>, <s>, </s>"):
        read_tokenizer(tmp_path)
