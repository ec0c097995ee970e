"""gemb export FOLDER OUTPUT: write a model as ONNX, StableHLO or GGUF for other programs.

    gemb export runs/a/model exported                          # ONNX, float32
    gemb export --format=onnx-int8 all-MiniLM-L6-v2 exported   # int8 matrices
    gemb export --format=stablehlo runs/a/model exported       # jax.export: CPU, CUDA and TPU
    gemb export --format=gguf runs/a/model exported            # llama.cpp and Ollama

FOLDER is a model's folder or name. OUTPUT, a new folder, gets the program, the tokenizer and
export.json: inputs, outputs, prompts, length limit, versions and the measured difference. ONNX and
StableHLO programs take token ids and a mask of any batch and length, and give vectors of every
nested width; pooling, projection and normalisation are inside. A GGUF file holds weights and
tokenizer; llama.cpp pools and normalises. A model of two towers becomes the folders query/ and
document/.

Before the folder appears, the program is run on real texts from this machine. If a coordinate
differs from gemb's by more than 1e-5, nothing is written; for int8 the difference is reported. A
GGUF file's weights are read back and computed by gemb. docs/howto/export.md shows how to use each.

Needs pip install 'gemb[export]', except stablehlo.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "format",
    "onnx",
    ["onnx", "onnx-int8", "stablehlo", "gguf"],
    "Format of the program.",
    allow_override=True,
)
flags.DEFINE_integer(
    "texts", 64, "Real texts to measure it on.", lower_bound=20, allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError

    if len(argv) != 2:
        raise UserError(f"expected FOLDER and OUTPUT, got {' '.join(argv) or 'nothing'}")
    from gemb.export.folder import described, export

    model, output = argv
    print(described(export(model, output, form=FLAGS.format, texts=FLAGS.texts), output))


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("export")
