"""A model, a corpus and a store for tests of releases."""

import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from words import WordEncoding

from gemb.models.functional import initial_params
from gemb.models.scratch import from_scratch
from gemb.pretrained import saving
from gemb.processors.text import of_bytes
from gemb.release.corpus import Corpus
from gemb.store import VersionStore

_PATH = Path(__file__).parents[1] / "store" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("key_store_fixtures", _PATH)
_FIXTURES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FIXTURES)
opener, valkey_address = _FIXTURES.opener, _FIXTURES.valkey_address
postgres_address, milvus_address = _FIXTURES.postgres_address, _FIXTURES.milvus_address
host_opener = _FIXTURES.host_opener


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """Folders of two small models with other weights."""
    made = from_scratch(of_bytes(48), layers=1, width=16, heads=2, mlp=16)
    folders = []
    for seed in range(2):
        folders.append(tmp_path_factory.mktemp("models") / f"tiny{seed}")
        drawn = jax.jit(lambda key: initial_params(made.spec, key))(jax.random.key(seed))
        saving.save(made.with_params(jax.device_get(drawn)), folders[-1])
    return folders


@pytest.fixture
def encoding():
    return WordEncoding()


@pytest.fixture
def store(tmp_path):
    return VersionStore(tmp_path / "store", create=True)


@pytest.fixture
def corpus_of():
    """Makes a corpus of {id: text}."""

    def made(texts, place="corpus.jsonl"):
        return Corpus(list(texts), list(texts.values()), [{} for _ in texts], place)

    return made


@pytest.fixture
def texts():
    """{id: text}, a hundred of them; two have the same text."""
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(60)]
    made = {f"d{row}": " ".join(rng.choice(words, 6)) for row in range(100)}
    made["d7"] = made["d3"]
    return made


@pytest.fixture
def write_corpus(tmp_path):
    """Writes {id: text} as a file, and gives its path."""

    def written(texts, name="corpus.jsonl"):
        path = tmp_path / name
        lines = (json.dumps({"_id": each, "text": text}) for each, text in texts.items())
        path.write_text("\n".join(lines) + "\n")
        return path

    return written
