"""Ids equal to the reference library's, on texts of many kinds; limits, prompts, bad texts."""

import gzip
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import sentencepiece
import tokenizers

from gemb.checks import UserError
from gemb.files import cache_dir
from gemb.tokenizers.tokenizer import Tokenizer, byte_tokenizer_json
from gemb.tokenizers.tokenizer_files import read_tokenizer

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
MODELS = ("mistral_v1_32k", "spm_test_en_1k", "spm_test_ja_8k")
MINILM = cache_dir() / "models" / "all-MiniLM-L6-v2"
LONG = 1 << 30  # a limit that no text reaches
AWKWARD = [
    "", " ", "   ", "\n\t", "\n", " a", "a ", "  a   b  ", "a\tb\r\nc", "\x00\x07", "a\x00b",
    "\u00a0a\u3000b\u200b", "\ufeffstart", "▁", "▁a▁", " ▁ ", "a ▁b", "🙂🙂 emoji", "\u0338a",
    "👩\u200d👧 👍\U0001f3fd", "e\u0301 e\u0323\u0302 ḗ e\u0304\u0301", "각 \u1100\u1161\u11a8",
    "ﾊﾟﾋﾞ ｶﾞ", "ﬁ ① ㎏ Ａ１ ½ ™", "हिन्दी क्\u200dषि தமிழ்", "x" * 5000, "word " * 500, "日本語" * 300,
    "=" * 70 + "-" * 33, " " * 45 + "a", "[SEP]", "a [SEP] b [MASK]", "</s>", "a</s>b<s> <unk>",
    "<0x41> <pad>", "<|endoftext|>", "https://example.org/?q=1&b=%20", "3,000 10,000.00 1/2",
    "\u202eabc\u202c", "İıŞß ΑΣ ǅ", "\ue000\U0010fffd",
]  # fmt: skip


def strings(value):
    """Every string inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def texts_of(file: Path):
    """Fields of tables, strings of JSON lines, lines of text."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if ".jsonl" in file.name:
                yield from strings(json.loads(line))
            elif ".tsv" in file.name:
                yield from line.split("\t")
            else:
                yield line


def shared_texts(most: int | None):
    """(file, texts) of all files below shared/data/text, evenly thinned to `most` texts a file."""
    files = sorted(file for file in (SHARED / "text").rglob("*") if file.is_file())
    if not files:
        pytest.skip(f"{SHARED} is absent")
    for file in files:
        texts = list(texts_of(file))
        yield file.name, texts[:: max(1, len(texts) // most) if most else 1]


def shared_model(name: str) -> Path:
    file = SHARED / "tokenizers" / f"{name}.model"
    if not file.exists():
        pytest.skip(f"{file} is absent")
    return file


def assert_same(encode, reference, most: int | None):
    """Compares two functions of a list of texts, and counts the texts that they differ on."""
    wrong, count = [], 0
    for name, texts in [("awkward", AWKWARD), *shared_texts(most)]:
        for start in range(0, len(texts), 50_000):
            batch = texts[start : start + 50_000]
            pairs = zip(batch, encode(batch), reference(batch), strict=True)
            wrong += [(name, text[:80]) for text, ours, theirs in pairs if ours != theirs]
            count += len(batch)
    print(f"{len(wrong)} of {count} texts differ")
    assert count > 500
    assert not wrong, f"{len(wrong)} of {count} texts differ, such as {wrong[:3]}"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("most", [200, pytest.param(None, marks=pytest.mark.slow)])
def test_ids_equal_sentencepiece(name, most):
    file = shared_model(name)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(file))
    assert_same(Tokenizer(read_tokenizer(file), LONG).encode, reference.encode, most)


@pytest.mark.peers
@pytest.mark.parametrize("source", ["tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize("most", [200, pytest.param(None, marks=pytest.mark.slow)])
def test_ids_equal_transformers(source, most, tmp_path):
    transformers = pytest.importorskip("transformers")
    if not (MINILM / source).exists():
        pytest.skip(f"{MINILM} is absent")
    for name in (source, "config.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((MINILM / name).read_bytes())
    reference = transformers.AutoTokenizer.from_pretrained(MINILM)
    assert_same(
        Tokenizer(read_tokenizer(tmp_path), LONG).encode,
        lambda texts: reference(texts, verbose=False)["input_ids"],
        most,
    )


@pytest.mark.long
def test_mistral_goes_by_rust_and_unigram_models_by_sentencepiece():
    """Else the comparisons above would compare SentencePiece with itself only."""
    carried = [
        "sentencepiece" in json.loads(read_tokenizer(shared_model(m)))["model"] for m in MODELS
    ]
    assert carried == [False, True, True]


def templates() -> dict[str, str]:
    """A tokenizer for each place of special tokens, by Rust and by SentencePiece."""
    found = {"[CLS] $A [SEP]": byte_tokenizer_json()}
    for template in ("[CLS] $A", "$A [SEP]", "$A"):
        tokenizer = tokenizers.Tokenizer.from_str(byte_tokenizer_json())
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single=template, special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
        found[template] = tokenizer.to_str()
    return found


@pytest.mark.parametrize("template", templates())
def test_truncation_keeps_special_tokens(template):
    names = template.split()
    before, after = names.index("$A"), len(names) - names.index("$A") - 1
    full = Tokenizer(templates()[template], LONG).encode(["a text"])[0]
    for length in range(max(1, before + after), len(full) + 2):
        room = min(length, len(full)) - before - after
        expected = full[: before + room] + full[len(full) - after :]
        assert Tokenizer(templates()[template], length).encode(["a text"]) == [expected]


@pytest.mark.long
@pytest.mark.parametrize("model_type", ["llama", "t5", "xlm-roberta", "none"])
@pytest.mark.parametrize("name", MODELS)
def test_truncation_of_sentencepiece_keeps_special_tokens(name, model_type, tmp_path):
    file = shared_model(name)
    (tmp_path / "tokenizer.model").write_bytes(file.read_bytes())
    if model_type != "none":
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    before, after = {"llama": (1, 0), "t5": (0, 1), "xlm-roberta": (1, 1), "none": (0, 0)}[
        model_type
    ]
    text = read_tokenizer(tmp_path)
    full = Tokenizer(text, LONG).encode(["a text of words"])[0]
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(file)).encode("a text of words")
    assert len(full) == before + len(pieces) + after
    for length in range(max(1, before + after), len(full) + 2):
        room = min(length, len(full)) - before - after
        expected = full[: before + room] + full[len(full) - after :]
        assert Tokenizer(text, length).encode(["a text of words"]) == [expected]


def test_limits_and_padding_inside_tokenizer_json_are_overlooked():
    stored = tokenizers.Tokenizer.from_str(byte_tokenizer_json())
    stored.enable_truncation(3)
    stored.enable_padding(length=20, direction="left")
    plain = Tokenizer(byte_tokenizer_json(), 6).encode(["a long text", "a"])
    assert stored.encode("a long text").ids != plain[0]
    assert Tokenizer(stored.to_str(), 6).encode(["a long text", "a"]) == plain
    stored.enable_truncation(6, direction="left")
    stored.no_padding()
    left = Tokenizer(stored.to_str(), 6).encode(["a long text", "a"])
    assert left == [stored.encode("a long text").ids, plain[1]] != plain


@pytest.mark.parametrize(
    ("template", "special"), [("[CLS] $A [SEP]", 2), ("[CLS] $A", 1), ("$A", 0)]
)
def test_max_length_below_special_tokens(template, special):
    for length in range(-1, max(special, 1)):
        with pytest.raises(
            UserError, match=f"max_length: {length} has no room.* {special} special"
        ):
            Tokenizer(templates()[template], length)
    Tokenizer(templates()[template], max(special, 1))


@pytest.mark.parametrize("name", ["[PAD]", "<pad>", "<|endoftext|>", None])
def test_padding(name):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1, name or "c": 2}, []))
    assert Tokenizer(tokenizer.to_str(), 4).padding == (2 if name else 0)


@pytest.mark.peers
@pytest.mark.parametrize("prompt", ["", "query: ", "q", "a [SEP]", "a very long prompt: " * 4])
@pytest.mark.parametrize("template", templates())
def test_prompt_length_equals_sentence_transformers(template, prompt, tmp_path):
    transformers = pytest.importorskip("transformers")
    modules = pytest.importorskip("sentence_transformers.base.modules.transformer")
    (tmp_path / "tokenizer.json").write_text(templates()[template])
    reference = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"),
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
    )

    def preprocess(texts):
        return reference(texts, truncation=True, max_length=32, return_tensors="np")

    module = types.SimpleNamespace(
        preprocess=preprocess, tokenizer=reference, _prompt_length_mapping={}
    )
    # sentence-transformers does not ask where there is no prompt
    expected = modules.Transformer._get_prompt_length(module, prompt) if prompt else 0
    assert Tokenizer(templates()[template], 32, prompt).prompt_length == expected


def test_prompt_length_is_the_common_start():
    """Bytes never merge, so that the prompt's tokens are those that all texts begin with."""
    for text in templates().values():
        tokenizer = Tokenizer(text, 100, "query: ")
        first, second = tokenizer.encode(["ab", "cd"])
        common = [a == b for a, b in zip(first, second, strict=True)].index(False)
        assert tokenizer.prompt_length == common


@pytest.mark.parametrize("kind", ["rust", *MODELS])
def test_texts_that_are_not_unicode(kind):
    text = byte_tokenizer_json() if kind == "rust" else read_tokenizer(shared_model(kind))
    tokenizer = Tokenizer(text, 16)
    with pytest.raises(UserError, match=re.escape("texts[2]: not valid Unicode (a lone surrogate")):
        tokenizer.encode(["a", "🙂", "b\ud83d", "c"])
    with pytest.raises(UserError, match=re.escape("texts[1]: expected a string, got int")):
        tokenizer.encode(["a", 3])
    with pytest.raises(UserError, match=r"prompt: not valid Unicode .* character 1\)"):
        Tokenizer(text, 16, "a\udc00")
    assert tokenizer.encode([]) == []


def test_tokenizer_truncates_prompts_and_refuses():
    tokenizer = Tokenizer(byte_tokenizer_json(), 6, prompt="q:")
    assert tokenizer.decode(tokenizer.encode([" a"])[0]) == "q: a"
    assert len(tokenizer.encode(["a long text"])[0]) == 6
    assert tokenizer.encode(["a long text"])[0][-1] == 2  # the end token survives the cut
    with pytest.raises(UserError, match=r"texts\[1\]: expected a string, got NoneType"):
        tokenizer.encode(["a", None])


def test_broken_tokenizer_json():
    with pytest.raises(UserError, match="tokenizer_json: not a tokenizer"):
        Tokenizer(byte_tokenizer_json()[:-9], 8)


def test_light_import():
    heavy = ("tensorflow", "torch", "transformers", "sentencepiece", "jax")
    code = (
        f"import sys\nfor name in {heavy}: sys.modules[name] = None\n"
        "from gemb.tokenizers.tokenizer import Tokenizer, byte_tokenizer_json\n"
        "print(Tokenizer(byte_tokenizer_json(), 4).encode(['ab']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[[1, 67, 68, 2]]", done.stderr
