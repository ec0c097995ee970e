"""Execution settings: how a model is computed. They change vectors only by rounding."""

import dataclasses

import jax

from gemb.checks import check

LAYERS = ("scan", "unroll")
ATTENTION = ("auto", "plain", "xla", "cudnn", "splash")
REMAT = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "none": None,
}


@dataclasses.dataclass(frozen=True)
class Execution:
    """Execution settings of a model.

    Attributes:
        dtype: dtype of the transformer's arithmetic; parameters, norms and softmax stay float32.
            float32 products are exact float32 on every device, unless jax_default_matmul_precision
            says otherwise.
        layers: "scan" compiles one layer (or one period of a pattern of layers) and loops, which
            compiles faster and lets `remat` save memory; "unroll" compiles them all, a little
            faster for a small model on a CPU.
        remat: what the backward pass recomputes in each layer: "full" (everything; least memory),
            "dots" (all but matrix products), "none".
        attention: "plain" (any device, any variant), "xla" or "cudnn" (those of
            jax.nn.dot_product_attention; cudnn: GPU, half precision), "splash" (TPU), "auto": the
            fastest that fits.
        dropout: share of the entries set to zero in training, for embeddings, attention weights
            (plain attention only) and the outputs of sublayers.
        matmul_dtype: dtype to which operands of the layers' linear maps are rounded, forwards and
            backwards, while sums and all other arithmetic stay float32: "bfloat16", or "" for
            `dtype`. CPUs with native bfloat16 products (AVX-512 BF16, AMX) are fast this way, but
            not with activations in bfloat16. torch calls this float32_matmul_precision "medium".
    """

    dtype: str = "float32"
    layers: str = "unroll"
    remat: str = "none"
    attention: str = "auto"
    dropout: float = 0.0
    matmul_dtype: str = ""

    def __post_init__(self):
        for name, known in (("layers", LAYERS), ("attention", ATTENTION), ("remat", REMAT)):
            value = getattr(self, name)
            check(value in known, f"{name}: expected one of {list(known)}, got {value!r}")
        check(
            self.dtype in ("float32", "bfloat16", "float16"),
            f"dtype: expected float32, bfloat16 or float16, got {self.dtype!r}",
        )
        check(
            self.matmul_dtype in ("", "bfloat16"),
            f"matmul_dtype: expected bfloat16 or '', got {self.matmul_dtype!r}",
        )
        check(
            not self.matmul_dtype or self.dtype == "float32",
            f"matmul_dtype: with dtype {self.dtype} products already use {self.dtype}",
        )
        check(0 <= self.dropout < 1, f"dropout: expected a rate in [0, 1), got {self.dropout}")

    @property
    def rounding(self) -> str:
        """A label of the rounding that these settings cause, for cache keys; '' for float32."""
        if self.matmul_dtype:
            return f"{self.matmul_dtype} products"
        return "" if self.dtype == "float32" else self.dtype
