"""Re-scoring: inner products, and a cross-encoder against torch, a pair at a time."""

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.curation import rescoring
from gemb.inference.cross_encoder import CrossEncoder, cross_encoder_fingerprint


def test_vector_scores_are_inner_products(monkeypatch):
    monkeypatch.setattr(rescoring, "_ROWS", 7)
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(5, 4)), rng.normal(size=(9, 4))
    asked, found = rng.integers(0, 5, 30), rng.integers(0, 9, 30)
    made = rescoring.VectorScores(queries, documents).scores(asked, found)
    np.testing.assert_allclose(made, (queries @ documents.T)[asked, found], rtol=1e-5, atol=1e-6)


QUERIES = ["what is a hat", "rain"]
DOCUMENTS = ["a hat is worn", "rain falls from clouds onto the earth below", "nothing"]


def save(folder, labels):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    words = sorted({word for text in QUERIES + DOCUMENTS for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_labels=labels, initializer_range=0.5,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(folder, safe_serialization=True)
    return model


@pytest.mark.slow  # torch takes its time to load
@pytest.mark.peers
def test_a_cross_encoder_is_torchs(tmp_path):
    model = save(tmp_path / "model", 1)
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    scorer = rescoring.CrossScores(
        CrossEncoder(str(tmp_path / "model"), batch=2), QUERIES, DOCUMENTS
    )
    asked, found = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 2, 1, 0])
    expected = []
    with torch.no_grad():
        for query, document in zip(asked, found, strict=True):
            tokens = tokenizer(QUERIES[query], DOCUMENTS[document], return_tensors="pt")
            expected.append(1 / (1 + np.exp(-float(model(**tokens).logits))))
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(scorer.scores(asked, found), expected, atol=1e-5)
    assert len(scorer.fingerprint) == 32


@pytest.mark.slow  # torch takes its time to load
@pytest.mark.peers
def test_what_is_no_cross_encoder_is_told(tmp_path):
    save(tmp_path / "three", 3)
    with pytest.raises(UserError, match="a classifier of 3 classes; a cross-encoder has one"):
        CrossEncoder(str(tmp_path / "three"))
    with pytest.raises(UserError):
        CrossEncoder(str(tmp_path / "none"))


def test_every_shard_and_the_length_count_in_the_fingerprint(tmp_path):
    def of(length=8, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.safetensors").write_text(text)
        return cross_encoder_fingerprint(tmp_path, length)

    first = of(one="a", two="b")
    assert of() == first
    assert len({first, of(two="c"), of(one="d"), of(9), of(model="e")}) == 5
