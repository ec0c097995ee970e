"""Other people's clients, unchanged."""

import numpy as np
import pytest
import served

pytestmark = pytest.mark.extra("serve", "services")


@pytest.fixture(scope="module")
def server(places):
    made = served.Running(models=[places["model"]])
    yield made
    made.close()


@pytest.mark.long
def test_openais_client(server, places):
    import openai

    from gemb.inference.embedder import Embedder

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    texts = ["a bridge", "the forest"]
    expected = Embedder.load(str(places["model"])).encode(texts, dim=8)
    coded = client.embeddings.create(input=texts, model="tiny", dimensions=8)  # base64 by default
    plain = client.embeddings.create(
        input=texts, model="tiny", dimensions=8, encoding_format="float"
    )
    made, other = (
        np.array([each.embedding for each in answer.data], np.float32) for answer in (coded, plain)
    )
    np.testing.assert_allclose(made, expected, atol=1e-6)
    assert np.array_equal(made, other)
    assert coded.usage.total_tokens > 0
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(input="a", model="tiny", dimensions=5)
    assert error.value.param == "dimensions"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(input="a", model="text-embedding-3-small")
