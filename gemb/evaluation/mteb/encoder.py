"""mteb evaluates a gemb model as any other: the adapter to its encoder protocol.

mteb (extra `mteb`) is imported only in this folder, when it is first needed.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gemb.checks import UserError, needs
from gemb.inference.encoded_once import EncodedOnce, Encoder, similarity_of, with_prompts
from gemb.metrics.geometry import truncate
from gemb.metrics.similarity import check_product


class MtebEncoder:
    """A gemb model behind mteb's `EncoderProtocol`, for `mteb.evaluate(MtebEncoder(...), tasks)`.

    Texts that mteb calls queries or documents get the model's own prompt for them, others none, as
    sentence-transformers does it; `prompts` says otherwise.

    Args:
        encoder: a `gemb.Embedder`.
        name: what mteb calls the model.
        width: leading coordinates to keep, made unit length again; None for the whole vector.
        prompts: mteb's keys -> prompt: a task's name, a task's type ("STS"), "query" or "document",
            or either of the first two with "-query" or "-document" after it; the first of
            name-side, name, type-side, type, side that is there wins.

    Example:
        >>> from gemb import Embedder
        >>> model = MtebEncoder(Embedder.load("all-MiniLM-L6-v2"))  # doctest: +SKIP
        >>> mteb.evaluate(model, mteb.get_tasks(tasks=["STSBenchmark"]))  # doctest: +SKIP

    Reference: Muennighoff et al., MTEB: Massive Text Embedding Benchmark, 2022, arXiv 2210.07316.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str = "model",
        *,
        width: int | None = None,
        prompts: Mapping[str, str] | None = None,
    ):
        check_product(similarity_of(encoder), name)
        self.encoder, self.name = encoder, name
        self.width, self.prompts = width, dict(prompts or {})
        self._prompted: dict[tuple[str, str | None], Encoder] = {}
        self._known: dict[Encoder, EncodedOnce] | None = None

    @property
    def mteb_model_meta(self):
        """mteb's description of the model; its revision is the fingerprint."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        known = {
            "name": f"gemb/{self.name.strip('/').replace('/', '__')}",
            "revision": self.encoder.fingerprint,
            "embed_dim": self.width or self.encoder.dim,
            "framework": ["JAX"],
            "similarity_fn_name": ScoringFunction(similarity_of(self.encoder)),
        }
        return ModelMeta.create_empty(overwrites=known)

    def encode(
        self, inputs, *, task_metadata, hf_split: str, hf_subset: str, prompt_type=None, **ignored
    ) -> np.ndarray:
        """Encodes mteb's batches of {"text": [texts]} to [texts, width] float32.

        Raises:
            UserError: a task of images, sound or video.
        """
        if "text" not in task_metadata.modalities:
            found = ", ".join(task_metadata.modalities)
            raise UserError(f"{task_metadata.name}: a task of {found}; gemb's models read text")
        texts = [text for batch in inputs for text in batch["text"]]
        side = getattr(prompt_type, "value", prompt_type)
        model = self._model(side, self._prompt(task_metadata, prompt_type))
        kind, label = side or "document", f"{self.name}, {task_metadata.name}"
        if self._known is None:
            vectors = model.encode(texts, kind=kind, progress=label)
        else:
            once = self._known.setdefault(model, EncodedOnce(model))
            vectors = once.vectors(texts, kind, label)
        if self.width is None:
            return vectors
        cosine = similarity_of(self.encoder) == "cosine"
        return truncate(vectors, self.width) if cosine else vectors[:, : self.width]

    def similarity(self, embeddings1, embeddings2):
        """The model's similarity of all pairs, a torch tensor."""
        return self._functions()[0](embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1, embeddings2):
        """The model's similarity row by row, a torch tensor."""
        return self._functions()[1](embeddings1, embeddings2)

    def _functions(self):
        """mteb's functions of the model's similarity, of all pairs and of row by row."""
        from mteb import similarity_functions as known

        return {
            "cosine": (known.cos_sim, known.pairwise_cos_sim),
            "dot": (known.dot_score, known.pairwise_dot_score),
        }[similarity_of(self.encoder)]

    def at_widths(self, widths: Sequence[int]) -> Iterator[int]:
        """Yields this encoder at each width in turn; each text is encoded for the first only."""
        whole, self._known = self.width, {} if len(widths) > 1 else None
        try:
            for width in widths:
                self.width = width if width < self.encoder.dim else None
                yield width
        finally:
            self.width, self._known = whole, None

    def _prompt(self, task_metadata, prompt_type) -> str | None:
        """The prompt of these texts; None for the model's own."""
        if self.prompts:
            from mteb.models.abs_encoder import get_prompt_name

            key = get_prompt_name(self.prompts, task_metadata, prompt_type)
            if key is not None:
                return self.prompts[key]
        return "" if prompt_type is None else None

    def _model(self, side: str | None, prompt: str | None) -> Encoder:
        kind = side or "document"
        if (kind, prompt) not in self._prompted:
            prompts = {} if prompt is None else {kind: prompt}
            self._prompted[kind, prompt] = with_prompts(self.encoder, prompts)
        return self._prompted[kind, prompt]


def import_mteb():
    """The library, its warnings kept from the terminal.

    Raises:
        UserError: it is not installed.
    """
    with needs("--mteb", extra="mteb"):
        import mteb
        from datasets import disable_progress_bars
    logging.getLogger("mteb").setLevel(logging.ERROR)
    disable_progress_bars()
    return mteb
