"""gemb harvest-pictures [FOLDER...]: make a folder of pictures with captions to train on.

Without a FOLDER, and with --source=openmoji, the emoji drawings of OpenMoji are taken from their
wheel on the package index (31 MB, its hash is checked) and drawn, with their names in the languages
that the library `emoji` knows. On Debian and Ubuntu there are more, once their packages are
installed: --source=tuxpaint (tuxpaint-stamps-default: cut-out photos, captions in many languages)
and --source=openclipart (openclipart-png: drawings with titles).

    gemb harvest-pictures --output=runs/pictures
    gemb harvest-pictures --output=runs/pictures --source=openmoji,tuxpaint

For pictures of your own, give their folders. A captions.jsonl, captions.tsv or captions.csv with
the columns file and caption says what they show; else the names of files do (cute_dog-01.jpg), or
those of folders (dogs/IMG_0001.jpg):

    gemb harvest-pictures --output=runs/mine ~/Pictures/animals

The folder holds images.zip, captions.jsonl and licences.txt. Pictures with the same caption are all
in one split, train or test, which a hash of the caption decides. Needs pip install
'gemb[pictures]'.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "output",
    None,
    "Folder to write; required with FOLDERs, else in the cache.",
    allow_override=True,
)
flags.DEFINE_bool("force", False, "Harvest again.", allow_override=True)
flags.DEFINE_list(
    "source", [], "openmoji, tuxpaint, openclipart; default openmoji without FOLDERs.",
    allow_override=True,
)  # fmt: skip
flags.DEFINE_integer(
    "pixels", 256, "Longer side of a picture at most; drawings have half of it.", 16,
    allow_override=True,
)  # fmt: skip


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.datasets.pictures import ensure
    from gemb.datasets.pictures.harvest import is_pictures

    if argv and not FLAGS.output:
        raise UserError("name the folder to write with --output=DIR")
    output = FLAGS.output or ensure.default_folder(FLAGS.pixels)
    if is_pictures(output) and not FLAGS.force:
        print(f"the harvest exists already; --force makes it again: {output}")
        return
    names = FLAGS.source or ([] if argv else ["openmoji"])
    made = ensure.harvest_of(names, argv, output, pixels=FLAGS.pixels)
    for name, about in made["sources"].items():
        lost = about.get("unreadable", 0)
        note = f", {lost} could not be read" if lost else ""
        train, test = about.get("train", 0), about.get("test", 0)
        print(f"{name}: {train:,} for training, {test:,} for tests{note}; {about['licence']}")
    print(f"pictures: {output}")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("harvest-pictures")
