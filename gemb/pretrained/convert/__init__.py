"""Models in foreign formats -> Hugging Face folders: ONNX exports of BERT, GGUF files of Llama.

Belongs here: reading those formats, and writing config, safetensors and tokenizer. Reading a folder
into gemb's own parameters does not. `onnx` and `gguf` come with the extra `convert`.
"""

from gemb.pretrained.convert.checkpoint import Written
from gemb.pretrained.convert.folder import check_extra, convert, convert_into
from gemb.pretrained.modules import DTYPES

__all__ = ["DTYPES", "Written", "check_extra", "convert", "convert_into"]
