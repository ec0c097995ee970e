"""Routers written by sentence-transformers itself, and the prompts of queries and documents."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from gemb.checks import UserError
from gemb.inference.embedder import Embedder
from gemb.pretrained.adapt import load
from gemb.pretrained.saving import save

peer = pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.peers
TEXTS = ["a b c", "b", "c d e f g"]


def letters(names: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(["?", *names])}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def table(names: str, seed: int):
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    weights = np.random.default_rng(seed).normal(size=(len(names) + 1, 8)).astype(np.float32)
    return StaticEmbedding(letters(names), embedding_weights=weights)


def router(folder, routes, after=True, prompts=None, **options):
    from sentence_transformers.base.modules import Normalize, Router

    modules = [Router(routes, **options), *([Normalize()] if after else [])]
    model = peer.SentenceTransformer(modules=modules, device="cpu", prompts=prompts)
    model.save(str(folder))
    return model


def assert_equal(folder, reference, tmp_path):
    """Ours and theirs, of both sides; and theirs of what gemb saves."""
    ours = Embedder.load(folder)
    save(ours.model, tmp_path / "saved")
    again = peer.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    for side in ("query", "document"):
        expected = getattr(reference, f"encode_{side}")(TEXTS)
        np.testing.assert_allclose(ours.encode(TEXTS, kind=side), expected, atol=1e-6)
        np.testing.assert_allclose(getattr(again, f"encode_{side}")(TEXTS), expected, atol=1e-6)


ROUTES = {
    "by side": (("query", "document"), {}),
    "mapped": (("small", "large"), {"route_mappings": {
        ("query", "text"): "small", (None, "text"): "large"}}),
    "mapped by task": (("small", "large"), {"route_mappings": {
        ("query", None): "small", (None, None): "large"}}),
    "default": (("query", "document"), {"default_route": "query"}),
    "text only": (("text", "other"), {}),
    "mapping first": (("query", "document"), {"route_mappings": {
        ("query", "text"): "document", ("document", "text"): "query"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUTES)
def test_routers_equal_sentence_transformers(name, tmp_path):
    names, options = ROUTES[name]
    routes = {names[0]: [table("abcd", 1)], names[1]: [table("gfedcba", 2)]}
    reference = router(tmp_path / "router", routes, **options)
    if name == "text only":  # the sides are no routes there: sentence-transformers takes the text's
        reference = peer.SentenceTransformer(str(tmp_path / "router"), device="cpu")
    assert_equal(tmp_path / "router", reference, tmp_path)
    assert load(str(tmp_path / "router")).shared == (name == "text only")


def test_the_older_form_of_a_router_is_read(tmp_path):
    routes = {"query": [table("abcd", 1)], "document": [table("gfedcba", 2)]}
    reference = router(tmp_path / "asym", routes)
    file = tmp_path / "asym" / "modules.json"
    steps = json.loads(file.read_text())
    place = tmp_path / "asym" / steps[0]["path"]
    (place / "router_config.json").rename(place / "config.json")
    steps[0]["type"] = "sentence_transformers.models.Asym"
    file.write_text(json.dumps(steps))
    assert_equal(tmp_path / "asym", reference, tmp_path)


def test_routers_that_cannot_be_followed_are_refused(tmp_path):
    routes = {"query": [table("abcd", 1)], "doc": [table("gfedcba", 2)]}
    router(tmp_path / "one", routes)
    with pytest.raises(UserError, match=r"no route for the side 'document'.*'doc', 'query'"):
        load(str(tmp_path / "one"))
    file = next((tmp_path / "one").rglob("router_config.json"))
    content = json.loads(file.read_text())
    content["parameters"]["route_mappings"] = {"('document', 'text')": "docs"}
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="names the route 'docs', which is not there"):
        load(str(tmp_path / "one"))
    content["parameters"]["route_mappings"] = {"document": "doc("}
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="route_mappings: expected keys such as"):
        load(str(tmp_path / "one"))


@pytest.mark.parametrize(
    "prompts",
    [
        {"query": "a ", "passage": "b "},
        {"query": "a ", "corpus": "c "},
        {"corpus": "c ", "passage": "b "},
        {"document": "d ", "passage": "b "},
        {"document": "", "passage": "b "},
        {"passage": "", "corpus": "c "},
        {},
    ],
)
def test_the_prompts_of_documents_equal_sentence_transformers(prompts, tmp_path):
    model = peer.SentenceTransformer(
        modules=[table("abcdefg", 3)], device="cpu", prompts=dict(prompts) or None
    )
    model.save(str(tmp_path / "model"))
    reference = peer.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert_equal(tmp_path / "model", reference, tmp_path)
