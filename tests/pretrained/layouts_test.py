"""Twelve public layouts, made with the libraries' own classes: read, saved, and read over there."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from gemb.inference.embedder import Embedder
from gemb.pretrained.saving import save

pytestmark = pytest.mark.peers
TEXTS = ["a b c", "the door is blue", "z", "q r s t u v w x y z a b c d e f"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "door", "is", "blue"]
WORDS += [chr(number) for number in range(ord("a"), ord("z") + 1)]
SHAPE = {
    "vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
DISTIL = {"vocab_size": 48, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48,
          "max_position_embeddings": 64}  # fmt: skip
T5 = {"vocab_size": 48, "d_model": 32, "d_kv": 8, "num_layers": 2, "num_heads": 4, "d_ff": 48}
GATED = SHAPE | {"num_key_value_heads": 2, "head_dim": 8}


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def encoder(folder, kind: str, model: str, options: dict):
    """A transformers folder; returns sentence-transformers' module of it."""
    import torch
    import transformers
    from sentence_transformers.base.modules import Transformer

    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, f"{kind}Config")(**options))
    for parameter in made.parameters():
        if parameter.ndim > 1 and kind != "T5":
            parameter.data *= 4.0
    made.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=48,
    ).save_pretrained(folder)  # fmt: skip
    return Transformer(str(folder))


def text_model(folder, kind, options, pooling="mean", *, model="", end=(), prompts=None):
    import sentence_transformers as peer
    from sentence_transformers.sentence_transformer.modules import Pooling

    first = encoder(folder / "encoder", kind, model or f"{kind}Model", options)
    steps = [first, Pooling(32, pooling_mode=pooling), *end]
    made = peer.SentenceTransformer(modules=steps, device="cpu", prompts=prompts)
    made.save(str(folder / "model"))
    return folder / "model"


def normalized():
    from sentence_transformers.base.modules import Normalize

    return Normalize()


def bare(folder):
    encoder(folder / "encoder", "Bert", "BertModel", SHAPE)
    return folder / "encoder"


def with_dense(folder):
    from sentence_transformers.base.modules import Dense

    return text_model(folder, "DistilBert", DISTIL, end=[Dense(32, 16), normalized()])


def table(seed: int):
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    weights = np.random.default_rng(seed).normal(size=(len(WORDS), 16)).astype(np.float32)
    return StaticEmbedding(tokenizer(), embedding_weights=weights)


def static(folder):
    import sentence_transformers as peer
    from safetensors.numpy import load_file, save_file

    made = peer.SentenceTransformer(modules=[table(1), normalized()], device="cpu")
    made.save(str(folder / "model"))
    file = next((folder / "model").rglob("model.safetensors"))
    save_file({"embeddings": load_file(file)["embedding.weight"]}, file)  # as model2vec
    return folder / "model"


def two_towers(folder):
    import sentence_transformers as peer
    from sentence_transformers.base.modules import Dense, Router
    from sentence_transformers.sentence_transformer.modules import Pooling

    document = [encoder(folder / "encoder", "Bert", "BertModel", SHAPE), Pooling(32), Dense(32, 16)]
    router = Router.for_query_document([table(2)], document)
    made = peer.SentenceTransformer(modules=[router, normalized()], device="cpu")
    made.save(str(folder / "model"))
    return folder / "model"


SIDES = {"query": "the door a ", "document": "blue "}
LAYOUTS = {
    "bert": lambda folder: text_model(folder, "Bert", SHAPE, end=[normalized()]),
    "bare transformers": bare,
    "roberta, cls": lambda folder: text_model(folder, "Roberta", SHAPE, "cls", end=[normalized()]),
    "distilbert, dense": with_dense,
    "mpnet": lambda folder: text_model(folder, "MPNet", SHAPE | {"pad_token_id": 1}),
    "xlm-r, prompts": lambda folder: text_model(folder, "XLMRoberta", SHAPE, prompts=SIDES),
    "t5": lambda folder: text_model(folder, "T5", T5, model="T5EncoderModel", end=[normalized()]),
    "modernbert": lambda folder: text_model(folder, "ModernBert", SHAPE, "cls"),
    "nomic": lambda folder: text_model(folder, "NomicBert", SHAPE, end=[normalized()]),
    "qwen, last token": lambda folder: text_model(
        folder, "Qwen3", GATED, "lasttoken", end=[normalized()], prompts=SIDES),
    "model2vec": static,
    "router of two towers": two_towers,
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", LAYOUTS)
def test_read_saved_and_read_by_sentence_transformers(name, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    folder = LAYOUTS[name](tmp_path)
    reference = peer.SentenceTransformer(str(folder), device="cpu")
    ours = Embedder.load(folder)
    save(ours.model, tmp_path / "saved")
    again = peer.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert json.loads((tmp_path / "saved" / "gemb.json").read_text())["fingerprint"]
    for side in ("query", "document"):
        encode = f"encode_{side}"
        expected = np.stack([getattr(reference, encode)(text) for text in TEXTS])
        if name == "bare transformers":  # gemb scales the vectors of a folder without modules
            expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        mine = getattr(ours, encode)(TEXTS)
        np.testing.assert_allclose(mine, expected, atol=1e-5)
        theirs = np.stack([getattr(again, encode)(text) for text in TEXTS])
        np.testing.assert_allclose(theirs, expected, atol=1e-5)
    assert Embedder.load(tmp_path / "saved").fingerprint == ours.fingerprint
