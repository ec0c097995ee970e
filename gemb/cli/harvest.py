"""gemb harvest [FOLDER...]: make data for code search from folders of Python.

Queries are the first paragraphs of docstrings, documents are the functions without them. A fifth of
the modules, chosen by a hash of their names, is held out as a test set that shares no query and no
code with the training pairs. Code is only parsed, never run. Folders with names such as test and
vendor, hidden folders and virtual environments are skipped.

Without a folder, this Python's standard library is harvested into the cache, with the installed
packages as further training data:

    gemb harvest

To harvest your own repository, undocumented functions included, and search it:

    gemb harvest --output=runs/mine/harvest ~/src/myproject
    gemb harvest --output=runs/mine/more --packages ~/src/myproject   # more pairs to train on
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
flags.DEFINE_bool(
    "packages", False, "Also harvest the installed packages for training.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.datasets import python_code

    if argv and not FLAGS.output:
        raise UserError("name the folder to write with --output=DIR")
    output = FLAGS.output or python_code.default_folder()
    packages = python_code.site_packages() if FLAGS.packages else ()
    if python_code.is_harvest(output) and not FLAGS.force:
        if argv and not python_code.is_harvest_of(output, argv, packages):
            raise UserError(f"{output} holds a harvest of other folders; --force replaces it")
        print(f"the harvest exists already; --force makes it again: {output}")
    elif argv:
        python_code.harvest(argv, output, packages=packages, undocumented=True)
    else:
        python_code.harvest_interpreter(output)
    _report(output)


def _report(output) -> None:
    from gemb.datasets import python_code

    summary = python_code.read_summary(output)
    counts = summary["counts"]
    skipped = ", ".join(f"{count} {why}" for why, count in summary["skipped"].items()) or "none"
    pairs = counts["train_pairs"] + counts["train_packages_pairs"]
    print(f"{summary['files']:,} files (skipped: {skipped}), {counts['documents']:,} functions")
    print(f"{pairs:,} pairs to train on, {counts['test_queries']:,} test queries: {output}")
    if not counts["test_queries"]:
        print("too few documented functions for a test set; all pairs are for training")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("harvest")
