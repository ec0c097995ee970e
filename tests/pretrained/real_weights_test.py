"""Published weights, where `gemb fetch` has put them: figures that others have measured too."""

import csv
import gzip
from pathlib import Path

import jax
import numpy as np
import pytest

from gemb import Embedder
from gemb.files import cache_dir
from gemb.models.functional import functional
from gemb.pretrained.adapt import load

STS = Path(__file__).parents[3] / "shared/data/text/sts/stsb_en_test.tsv.gz"


def fetched(name: str) -> Path:
    folder = cache_dir() / "models" / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not in the cache; run `gemb fetch {name}`")
    return folder


# Spearman's rho of sentence-transformers 6.2 with the same folders
@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "expected"), [("all-MiniLM-L6-v2", 0.8203), ("bge-small-en-v1.5", 0.8579)]
)
def test_sts_benchmark(name, expected):
    stats = pytest.importorskip("scipy.stats")
    if not STS.exists():
        pytest.skip(f"{STS} is not there")
    embedder = Embedder.load(fetched(name))
    with gzip.open(STS, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == 1379
    left, right = (embedder.encode([row[f"sentence{i}"] for row in rows]) for i in (1, 2))
    grades = [float(row["score"]) for row in rows]
    found = stats.spearmanr((left * right).sum(1), grades).statistic
    assert found == pytest.approx(expected, abs=0.002)


@pytest.mark.peers
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_smollm_hidden_states_and_logits_equal_transformers(attention):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    folder = fetched("SmolLM2-135M-Instruct")
    ours = load(str(folder), attention=attention)
    texts = ["The capital of France is", "def add(a, b):\n    return"]
    processor = ours.processors.document.with_limit(32)
    tokens = processor.collate(processor.prepare(texts, "document"), 16)
    hidden = np.asarray(jax.jit(functional(ours.spec).document.hidden)(ours.params, tokens))
    config = transformers.AutoConfig.from_pretrained(folder)
    config.is_causal = attention == "causal"
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32
    )
    ids, mask = torch.tensor(tokens.ids, dtype=torch.long), torch.tensor(tokens.mask).long()
    with torch.no_grad():
        expected = model.model(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
        logits = model(input_ids=ids, attention_mask=mask).logits.numpy()
    real = tokens.mask
    scale = np.abs(expected[real]).max()
    np.testing.assert_allclose(hidden[real] / scale, expected[real] / scale, atol=1e-5)
    table = ours.params["text/token/table"]  # tied: the head is the embedding
    own = hidden[real] @ table.T
    if attention == "causal":
        np.testing.assert_allclose(own, logits[real], atol=2e-3)
        last = own[tokens.mask[0].sum() - 1].argmax()
        assert "Paris" in processor.tokenizer().decode([int(last)])
