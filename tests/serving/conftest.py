"""A server that several tests ask."""

import pytest


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A model, a corpus, an index."""
    import served

    folder = tmp_path_factory.mktemp("served")
    model = served.save_model(folder / "tiny")
    corpus = served.write_corpus(folder / "corpus")
    index = served.write_index(folder / "notes", model, corpus)
    classifier = served.train_classifier(folder / "days", model)
    return {
        "classifier": classifier,
        "model": model,
        "corpus": corpus,
        "index": index,
        "folder": folder,
    }
