"""gemb records FOLDER: what a model over features reads of all users and items, for a release.

    gemb records ~/.cache/gemb/data/debian-links --model=runs/towers/model --output=runs/records
    gemb release runs/store --model=runs/towers/model --workdir=runs/release-1 \\
        --corpus=runs/records/items.jsonl --queries=runs/records/users.jsonl --keys=sqlite:runs/u.db

FOLDER is one of interactions, as for `gemb baselines`. A user's history are all its events, or with
--train_only those that the column split calls train. OUTPUT receives users.jsonl and items.jsonl,
lines of {"_id", "text"}, where the text is the JSON of the model's columns. Run it again after the
data have changed: `gemb refresh` encodes only the records that are new or other.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "", "Folder of a model over features.", allow_override=True)
flags.DEFINE_string("output", "runs/records", "Folder to write.", allow_override=True)
flags.DEFINE_bool("train_only", False, "Leave test events out.", allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.cli.arguments import check_folder

    if len(argv) != 1:
        raise UserError("expected one folder of interactions: gemb records FOLDER")
    if not FLAGS.model:
        raise UserError("--model is required")
    check_folder("output")
    from gemb.data.interactions import splits
    from gemb.data.interactions.reading import read_folder
    from gemb.inference.embedder import Embedder
    from gemb.recommendation.links import Links
    from gemb.recommendation.records import write_records

    data = read_folder(argv[0])
    split = splits.by_column(data) if FLAGS.train_only else splits.everything(data.events)
    processor = Embedder.load(FLAGS.model).model.processors.query
    if processor.modality != "features":
        raise UserError(f"--model: {FLAGS.model} is not a model over features")
    for name, count in write_records(processor, Links(data, split), FLAGS.output).items():
        print(f"{FLAGS.output}/{name}: {count:,} records")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("records")
