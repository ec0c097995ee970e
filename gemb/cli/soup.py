"""gemb soup OUTPUT MODEL MODEL...: one model of several, by the mean of their weights.

    gemb soup runs/soup runs/seed0/model runs/seed1/model runs/seed2/model
    gemb soup --weights=2,1 runs/soup runs/a/model runs/b/model
    gemb soup --slerp=0.3 runs/between runs/a/model runs/b/model

The models are of one shape and tokenizer, best of one starting point. OUTPUT is a folder that gemb
and sentence-transformers load; its gemb.json tells what went in. A folder that is there is not
overwritten.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_list("weights", [], "One number a model; default equal.", allow_override=True)
flags.DEFINE_float(
    "slerp",
    None,
    "Go this far, 0 to 1, from the first of two models to the second, along the arc.",
    allow_override=True,
)


def main(argv: list[str]) -> None:
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.identity import model_fingerprint
    from gemb.pretrained import saving
    from gemb.pretrained.adapt import load
    from gemb.training.checkpoints import soup

    if len(argv) < 3:
        raise UserError(
            "expected OUTPUT and two or more models: gemb soup runs/soup A/model B/model"
        )
    output, *folders = argv
    if Path(output).exists():
        raise UserError(f"{output} exists already; choose another place, or delete it")
    try:
        weights = [float(weight) for weight in FLAGS.weights]
    except ValueError as error:
        raise UserError(f"--weights: {error}") from None
    if weights and FLAGS.slerp is not None:
        raise UserError("--weights and --slerp: give one of them")
    models = [load(folder) for folder in folders]
    if FLAGS.slerp is None:
        made = soup.soup(models, weights)
    else:
        made = soup.slerp(models, FLAGS.slerp)
    parts = {folder: model_fingerprint(m) for folder, m in zip(folders, models, strict=True)}
    about = {"soup_of": parts, "weights": weights, "slerp": FLAGS.slerp}
    saving.save(made, Path(output), training=about)
    print(f"{output}: {len(models)} models")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("soup")
