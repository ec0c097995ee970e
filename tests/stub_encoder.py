"""An encoder for tests: a text is the sum of its words' vectors, drawn at random."""

import dataclasses
import zlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Spec:
    query_prompt: str = ""
    document_prompt: str = ""


@dataclasses.dataclass(frozen=True)
class StubModel:
    spec: Spec
    seed: int
    dim: int


class StubEncoder:
    """Looks to evaluation like a `gemb.Embedder`."""

    def __init__(self, model=None, execution=None, *, seed=0, dim=16, widths=None, noise=0.0):
        self.model, self.execution = model or StubModel(Spec(), seed, dim), execution
        self.spec, self.dim = self.model.spec, self.model.dim
        self.widths = widths or (self.dim, self.dim // 2)
        self.fingerprint = repr((self.model, noise))
        self.noise, self.encoded = noise, []

    def encode(self, texts, *, kind, progress=""):
        prompt = getattr(self.spec, f"{kind}_prompt")
        self.encoded += [(kind, prompt + text) for text in texts]
        return np.array([self._vector(prompt + text) for text in texts], np.float32)

    def with_prompts(self, prompts):
        spec = dataclasses.replace(self.spec, **{f"{k}_prompt": p for k, p in prompts.items()})
        if spec == self.spec:
            return self
        return type(self)(dataclasses.replace(self.model, spec=spec), self.execution)

    def _vector(self, text):
        words = sum((self._drawn(word) for word in text.lower().split()), np.zeros(self.dim))
        return words + self.noise * self._drawn(text + "!")

    def _drawn(self, text):
        seed = zlib.crc32(text.encode()) + self.model.seed
        return np.random.default_rng(seed).normal(size=self.dim)
