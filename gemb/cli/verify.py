"""gemb verify FOLDER: compare a model's vectors in other programs with gemb's, on real texts.

    gemb verify runs/a/model
    gemb verify --texts=200 all-MiniLM-L6-v2

The texts are docstrings of this machine's Python and difficult ones (empty, long, emoji, CJK, names
of special tokens, accents, upper case). They are encoded with every prompt and at every trained
width by sentence-transformers, transformers and, exported, ONNX Runtime, if these are installed.
Each row has the lowest cosine and the largest difference. text-embeddings-inference, vLLM and
llama.cpp are not run: their rows say whether the keys that they read match what gemb computes.

The exit status is 1 if a program's lowest cosine is below 0.9999. A program that is not installed
is listed as such and does not change the status.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("texts", 64, "Real texts.", lower_bound=20, allow_override=True)


def main(argv: list[str]) -> int:
    from gemb.checks import UserError

    if len(argv) != 1:
        raise UserError(f"expected FOLDER, got {' '.join(argv) or 'nothing'}")
    from gemb.export.verification import agrees, table, verify

    rows = verify(argv[0], texts=FLAGS.texts)
    print(table(rows))
    return 0 if agrees(rows) else 1


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("verify")
