"""gemb convert SOURCE OUTPUT: convert an ONNX or GGUF model to a Hugging Face folder.

SOURCE is an ONNX export of BERT (float or dynamically quantised int8) or a GGUF file of the Llama
architecture (any quantisation; for example SmolLM2 and Mistral 7B). OUTPUT, a new folder, gets
config.json, model.safetensors, tokenizer.json and a model card. It can be used wherever gemb takes
a model; transformers and sentence-transformers read it too.

Put the files that were published with an ONNX file next to it: config.json, tokenizer.json and, for
a sentence-transformers model, modules.json with 1_Pooling. A GGUF file contains its tokenizer.
Quantised weights become floats; precision that quantisation lost is not restored.

    gemb convert bge-small/model.onnx models/bge-small
    gemb convert --dtype=bfloat16 SmolLM2-135M.Q4_1.gguf models/smollm2
    gemb convert --heads=12 --tokenizer=other/tokenizer.json L3.onnx models/L3   # the file alone
    gemb fetch --list                                # models that gemb fetches and converts itself

Needs pip install 'gemb[convert]'. Pickles (.bin, .pt, .pth, .ckpt, .pkl) are refused: opening one
can run any code.
"""

import shlex

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "dtype",
    "float32",
    ["float32", "float16", "bfloat16"],
    "Dtype of the written weights.",
    allow_override=True,
)
flags.DEFINE_integer(
    "heads",
    None,
    "Attention heads of an ONNX model without config.json; its shapes do not give them.",
    lower_bound=1,
    allow_override=True,
)
flags.DEFINE_string(
    "tokenizer",
    None,
    "tokenizer.json or its folder; default next to the ONNX file, or inside the GGUF file.",
    allow_override=True,
)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError

    if len(argv) != 2:
        raise UserError(f"expected SOURCE and OUTPUT, got {' '.join(argv) or 'nothing'}")
    from pathlib import Path

    from gemb.pretrained.convert import convert
    from gemb.pretrained.publishing.card import write_card

    source, output = argv
    folder = convert(
        source, output, dtype=FLAGS.dtype, heads=FLAGS.heads, tokenizer=FLAGS.tokenizer
    )
    options = [f"--{name}={FLAGS[name].value}" for name in ("dtype", "heads", "tokenizer")
               if FLAGS[name].present]  # fmt: skip
    command = shlex.join(["gemb", "convert", *options, source, output])
    write_card(folder, base=Path(source).absolute().parent, commands=[command])


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("convert")
