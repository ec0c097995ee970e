"""gemb verify FOLDER: a model's vectors in other programs against gemb's, on real texts.

    gemb verify runs/a/model
    gemb verify --texts=200 all-MiniLM-L6-v2

Texts are docstrings of this machine's Python and awkward ones (empty, long, emoji, CJK, names of
special tokens, accents, upper case). They go with every prompt, at every trained width, through
sentence-transformers, transformers and, exported, ONNX Runtime: as far as these are installed. One
row says the least cosine and the largest difference. Of text-embeddings-inference, vLLM and
llama.cpp, which are not run, rows say whether the keys that they read are as gemb computes.

The exit status is 1 if a program's least cosine is below 0.9999. A program that is not installed
is listed as such, and counts neither way.
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
