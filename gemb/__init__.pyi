# What type checkers see of gemb; at run time names are imported on first use (__init__.py).
from gemb import losses as losses
from gemb import metrics as metrics
from gemb import search as search
from gemb.analysis import drift as drift
from gemb.answers.ask import ask as ask
from gemb.answers.corpus import documents as documents
from gemb.door import evaluate as evaluate
from gemb.door import load as load
from gemb.door import train as train
from gemb.inference.embedder import Embedder as Embedder
from gemb.recommendation.recommender import Recommender as Recommender
from gemb.structs import Image as Image
from gemb.structs import Video as Video

__version__: str
__all__ = [
    "Embedder",
    "Image",
    "Recommender",
    "Video",
    "__version__",
    "ask",
    "documents",
    "drift",
    "evaluate",
    "load",
    "losses",
    "metrics",
    "search",
    "train",
]
