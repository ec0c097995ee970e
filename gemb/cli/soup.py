"""gemb soup OUTPUT MODEL MODEL...: average the weights of several models.

    gemb soup runs/soup runs/seed0/model runs/seed1/model runs/seed2/model
    gemb soup --weights=2,1 runs/soup runs/a/model runs/b/model
    gemb soup --slerp=0.3 runs/between runs/a/model runs/b/model

The models must have the same shapes and tokenizer, and should start from the same weights. OUTPUT
is a folder that gemb and sentence-transformers load; its gemb.json lists the models. An existing
folder is not overwritten.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_list("weights", [], "One number per model; default equal.", allow_override=True)
flags.DEFINE_float(
    "slerp",
    None,
    "Spherical interpolation of two models: 0 is the first, 1 the second.",
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
        raise UserError(f"{output} exists already; choose another folder, or delete it")
    try:
        weights = [float(weight) for weight in FLAGS.weights]
    except ValueError as error:
        raise UserError(f"--weights: {error}") from None
    if weights and FLAGS.slerp is not None:
        raise UserError("--weights and --slerp: give only one of them")
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
