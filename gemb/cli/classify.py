"""gemb classify train | evaluate: classes of texts by heads at nested widths, with an early exit.

    gemb classify train --model=all-MiniLM-L6-v2 --input=train.csv --output=runs/intents
    gemb classify evaluate --classifier=runs/intents --input=test.csv
    gemb serve --classifier=runs/intents                  # POST /v1/classify

The input has a text (--column) and a label (--label) in each record: JSON lines, CSV, TSV, Parquet
and what else `gemb embed` reads. The model stays as it is; a linear head is fitted at each width of
its vectors, the narrowest first. A text leaves at the first width whose largest probability reaches
that width's threshold. Thresholds are learned on --validation, or on a fifth of the input that the
heads do not see: the least mean width that costs at most --tolerance of the accuracy there. On new
texts it costs more, so set a stricter tolerance than you need.

A model with nested widths is read at these; the vectors of any other are turned onto the principal
axes of the training texts first. --heads=tied fits one matrix for all widths, which is smaller and
a little worse. The classifier is of one model: any other is refused.

evaluate reports accuracy with early exit, of each width alone and of the widest, macro-F1, with
95 % intervals, and the share that leaves at each width. Use texts that training did not see.
OUTPUT receives report.html and results.json.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "", "Model folder or name.", allow_override=True)
flags.DEFINE_string("input", "", "File of records.", allow_override=True)
flags.DEFINE_string("column", "text", "Column of the text.", allow_override=True)
flags.DEFINE_string("label", "label", "Column of the label.", allow_override=True)
flags.DEFINE_string("validation", "", "File of texts for thresholds.", allow_override=True)
flags.DEFINE_list("widths", [], "Widths of heads; default see above.", allow_override=True)
flags.DEFINE_enum("heads", "own", ["own", "tied"], "A matrix for each width, or one for all.",
                  allow_override=True)  # fmt: skip
flags.DEFINE_float("tolerance", 0.0025, "Accuracy to give up.", 0, 1, allow_override=True)
flags.DEFINE_string("classifier", "", "Folder of the classifier.", allow_override=True)
flags.DEFINE_string("output", "", "Folder to write.", allow_override=True)
flags.DEFINE_integer("seed", 0, "Seed of the texts held out.", allow_override=True)
flags.DEFINE_float(
    "max_bad_fraction", 0.0, "Share of broken records to leave out.", allow_override=True
)
STEPS = ("train", "evaluate")


def main(argv: list[str]) -> None:
    from gemb.checks import UserError, suggest
    from gemb.cli.arguments import check_arguments

    step = argv[0] if argv else ""
    if step not in STEPS:
        given = f", got {step!r}.{suggest(step, STEPS)}" if step else ""
        raise UserError(f"expected `gemb classify train` or `gemb classify evaluate`{given}")
    if step == "train":
        check_arguments(argv[1:], "model", "input", "output")
        _train()
    else:
        check_arguments(argv[1:], "classifier", "input")
        _evaluate()


def _read(flag: str) -> tuple[list[str], list[str]]:
    from gemb.curation.inputs import read_labelled

    limit = FLAGS.max_bad_fraction
    place = FLAGS[flag].value
    return read_labelled(place, FLAGS.column, FLAGS.label, max_bad_fraction=limit)


def _train() -> None:
    from gemb import checks
    from gemb.analysis.classifier import train_classifier
    from gemb.cli.arguments import check_absent, check_apart, whole_numbers

    check_absent("train", "classifier")
    check_apart("output", ["classifier.json"], FLAGS.input, FLAGS.validation)
    widths = whole_numbers("widths")
    texts, labels = _read("input")
    validation = _read("validation") if FLAGS.validation else None
    embedder = _loaded(FLAGS.model)
    if widths:
        checks.check_widths("widths", widths, embedder.dim)
    vectors = embedder.encode(texts, progress="texts")
    if validation:
        validation = embedder.encode(validation[0], progress="validation"), validation[1]
    nested = len({*embedder.widths, embedder.dim}) > 1
    made = train_classifier(
        vectors,
        labels,
        model=embedder.fingerprint,
        encoder=FLAGS.model,
        widths=widths or (embedder.widths if nested else ()),
        validation=validation,
        nested=nested,
        tied=FLAGS.heads == "tied",
        tolerance=FLAGS.tolerance,
        seed=FLAGS.seed,
    )
    made.save(FLAGS.output)
    print(f"{len(made.labels)} labels, {len(texts):,} texts")
    for width in made.widths[:-1]:
        least = made.thresholds[width]
        print(
            f"  width {width:>5}: " + (f"leaves from {least:.3f}" if least <= 1 else "none leaves")
        )
    print(f"  width {made.widths[-1]:>5}: the rest\nclassifier: {FLAGS.output}")


def _evaluate() -> None:
    from gemb.analysis.classifier import Classifier, evaluate_classifier
    from gemb.cli.arguments import check_absent, check_apart

    check_absent("evaluate", "validation", "widths", "heads", "tolerance")
    if FLAGS.output:
        check_apart("output", ["report.html", "results.json"], FLAGS.input)
    made = Classifier.load(FLAGS.classifier)
    texts, labels = _read("input")
    embedder = _loaded(FLAGS.model or made.encoder)
    made.check_model(embedder.fingerprint)
    vectors = embedder.encode(texts, progress="texts")
    tree = evaluate_classifier(made, vectors, labels, seed=FLAGS.seed)
    tree |= {"classifier": FLAGS.classifier, "input": FLAGS.input, "model": made.model}
    _print(tree)
    if FLAGS.output:
        from pathlib import Path

        from gemb.files import write_json
        from gemb.reports.monitoring import write_classifier_page

        write_classifier_page(Path(FLAGS.output) / "report.html", tree)
        write_json(Path(FLAGS.output) / "results.json", tree)
        print(f"report: {FLAGS.output}/report.html")


def _loaded(place: str):
    from gemb.checks import UserError
    from gemb.inference.embedder import Embedder

    embedder = Embedder.load(place)
    reads = embedder.model.document.processor.modality
    if reads != "text":
        raise UserError(f"{place}: reads {reads}; expected a model of texts")
    return embedder


def _print(tree: dict) -> None:
    def shown(found: dict) -> str:
        return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"

    print(f"{tree['texts']:,} texts")
    if tree["unknown_labels"]:
        print(f"{tree['unknown_labels']:,} have labels that the classifier does not know")
    print(f"{'width':>7} {'accuracy':<26} {'macro-F1':>8} {'leave here':>11}")
    for row in tree["widths"]:
        figures = f"{row['macro_f1']:>8.4f} {row['share']:>11.1%}"
        print(f"{row['width']:>7} {shown(row['accuracy']):<26} {figures}")
    print(
        f"early exit: accuracy {shown(tree['accuracy'])}, macro-F1 {shown(tree['macro_f1'])}\n"
        f"lost to the widest head: {shown(tree['loss'])}\n"
        f"leave early: {tree['early']:.1%}; mean width {tree['mean_width']:.0f}"
    )


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("classify")
