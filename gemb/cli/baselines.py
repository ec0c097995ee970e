"""gemb baselines FOLDER: tune and test recommenders without embeddings on interactions.

FOLDER has interactions.tsv (or .csv, .jsonl, .parquet, also .gz) with the columns user and item,
and where there are any time, weight and split (train or test); items.* and users.* with ids and
their features are optional. Popularity, recent popularity (with times), item-kNN, RP3beta, EASE and
iALS are each tuned on validation events out of train, fitted again and tested once: the whole
catalogue is ranked, without the items that a user has. No recommender should be used that does not
beat them.

    gemb fetch --data=debian-links                       # or movielens-100k, or your own FOLDER
    gemb baselines ~/.cache/gemb/data/debian-links --output=runs/baselines
    gemb baselines FOLDER --split=random --seed=7 --only=popularity,EASE
    gemb baselines FOLDER --towers=runs/recommend_debian/model --save="towers, then EASE"
    gemb baselines FOLDER --towers=MODEL --validation_towers=MODEL --twin=MODEL
    gemb baselines FOLDER --models=runs/other/recommender         # saved recommenders next to them
    gemb baselines FOLDER --text_model=all-MiniLM-L6-v2           # and EASE with texts added
    gemb baselines FOLDER --only=EASE --save=EASE --segment=section

--split is column (what the file's column split says), random (a fifth of each user's events), one
(one event of each user), last (each user's latest; refused where many last times are equal), time,
or auto: column if there is one, else random. OUTPUT receives report.html and results.json; --save
also writes OUTPUT/recommender, for `gemb recommend`: that model, trained on the train events.
--towers is a model over features that was trained on the train events of the same split; it is
measured, and so is "towers, then EASE": its first hundred items in EASE's order. With
--validation_towers, the same experiment trained with PART = 'validation', the towers' weight in it
is chosen on validation, and "EASE + towers" is measured, the sum of both over all items. --twin is
a model of ids alone: the report says what the features add, with a paired test.
"""

from pathlib import Path

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "runs/baselines", "Folder to write.", allow_override=True)
flags.DEFINE_string("split", "auto", "How the test is taken; see above.", allow_override=True)
flags.DEFINE_integer("seed", 0, "Seed of splits and draws.", allow_override=True)
flags.DEFINE_list("only", [], "Baselines to run; default all.", allow_override=True)
flags.DEFINE_list("models", [], "Saved recommenders to test as well.", allow_override=True)
flags.DEFINE_integer(
    "budget", 0, "Settings to try per baseline; 0: the whole grid.", 0, allow_override=True
)
flags.DEFINE_string(
    "text_model", "", "Model for the texts of users.* and items.*.", allow_override=True
)
flags.DEFINE_string("text_column", "description", "Column of the texts.", allow_override=True)
flags.DEFINE_string("towers", "", "Folder of a trained model over features.", allow_override=True)
flags.DEFINE_string(
    "validation_towers", "", "The same, trained without validation events.", allow_override=True
)
flags.DEFINE_string("twin", "", "A model of ids alone to compare with.", allow_override=True)
flags.DEFINE_string("save", "", "Model to save as a recommender.", allow_override=True)
flags.DEFINE_string(
    "segment", "", "Column of users.* for the popularity that new users get.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError, suggest
    from gemb.cli.arguments import check_folder, check_no_run, short_names

    if len(argv) != 1:
        raise UserError("expected one folder of interactions: gemb baselines FOLDER")
    check_folder("output")
    check_no_run("output")
    from gemb.recommendation.baselines.registry import BASELINES

    chosen = FLAGS.only or list(BASELINES)
    for name in chosen:
        if name not in BASELINES:
            known = ", ".join(BASELINES)
            raise UserError(f"no baseline {name!r}; expected {known}.{suggest(name, BASELINES)}")
    for flag in ("validation_towers", "twin"):
        if FLAGS[flag].value and not FLAGS.towers:
            raise UserError(f"--{flag}: goes with --towers")
    saved = [*chosen, *_more(chosen)]
    if FLAGS.save and FLAGS.save not in saved:
        raise UserError(f"--save: expected one of {', '.join(saved)}; got {FLAGS.save!r}")
    from gemb.data.interactions import splits
    from gemb.data.interactions.reading import read_folder
    from gemb.evaluation.recommendation import STAGES, SUMMED, TOWERS, evaluate_recommenders
    from gemb.files import write_json
    from gemb.recommendation.recommender import Recommender
    from gemb.reports.recommendation_page import text_table, write_recommendation_page

    data = read_folder(argv[0])
    split = splits.named(data, FLAGS.split, seed=FLAGS.seed)
    places = short_names("models", FLAGS.models)
    others = {name: _model_of(Recommender.load(place), data) for name, place in places.items()}
    output = Path(FLAGS.output)
    if FLAGS.segment and FLAGS.segment not in data.users.columns:
        known = ", ".join(data.users.columns) or "none"
        raise UserError(f"--segment: users.* has no column {FLAGS.segment!r}; it has {known}")
    if FLAGS.save == "recent popularity" and data.events.time is None:
        raise UserError("--save: recent popularity needs times")
    tree, kept = evaluate_recommenders(
        data, split, baselines=chosen, models=others, texts=_texts(data),
        towers=_towers(data, split), budget=FLAGS.budget, keep=[FLAGS.save],
    )  # fmt: skip
    tree["about"] = {"data": str(argv[0]), "split": FLAGS.split, "seed": FLAGS.seed}
    if FLAGS.save:
        made = Recommender(
            kept[FLAGS.save], data.users, data.items, split.train, segment=FLAGS.segment
        )
        of_towers = FLAGS.save in (TOWERS, STAGES, SUMMED)
        made.save(output / "recommender", towers=FLAGS.towers if of_towers else "")
        print(f"recommender: {output / 'recommender'}")
    write_json(output / "results.json", tree)
    write_recommendation_page(output / "report.html", tree)
    for note in tree["notes"]:
        print(f"note: {note}")
    print(text_table(tree))
    print(f"report: {output / 'report.html'}")


def _more(chosen: list[str]) -> list[str]:
    """The models that the flags add to the baselines."""
    from gemb.evaluation.recommendation import FUSED, tower_models

    linear = "EASE" in chosen
    names = [FUSED] if FLAGS.text_model and linear else []
    if FLAGS.towers:
        tuned = bool(FLAGS.validation_towers)
        names += tower_models(twin=bool(FLAGS.twin), linear=linear, tuned=tuned)
    return names


def _towers(data, split):
    """The vectors of --towers, --validation_towers and --twin; None without the first."""
    if not FLAGS.towers:
        return None
    from gemb.evaluation.recommendation import Towers
    from gemb.recommendation.baselines.tuning import inner_split

    return Towers(
        _vectors("towers", data, split),
        _vectors("validation_towers", data, inner_split(split)),
        _vectors("twin", data, split),
    )


def _vectors(flag, data, split):
    """The vectors of a flag's model, with the histories of the split; None without the flag."""
    from gemb.checks import UserError
    from gemb.evaluation.link_validation import tower_vectors
    from gemb.inference.embedder import Embedder
    from gemb.pretrained.feature_models.folder import is_feature_model
    from gemb.recommendation.links import Links

    place = FLAGS[flag].value
    if not place:
        return None
    if not is_feature_model(Path(place)):
        raise UserError(f"--{flag}: {place} is not a model over features")
    return tower_vectors(Embedder.load(place), Links(data, split))


def _texts(data):
    """The vectors of the users' and of the items' texts; None without --text_model."""
    from gemb.checks import UserError
    from gemb.inference.embedder import Embedder

    if not FLAGS.text_model:
        return None
    model = Embedder.load(FLAGS.text_model)
    vectors = []
    for kind in ("users", "items"):
        columns = getattr(data, kind).columns
        if FLAGS.text_column not in columns:
            known = ", ".join(columns) or "none"
            raise UserError(f"--text_column: {kind}.* has no {FLAGS.text_column!r}; it has {known}")
        texts = [str(text or "") for text in columns[FLAGS.text_column]]
        vectors.append(model.encode_document(texts))
    return tuple(vectors)


def _model_of(recommender, data):
    """A recommender's model, if it has the tables of these data."""
    from gemb.checks import UserError

    for kind in ("users", "items"):
        if getattr(recommender, kind).ids != getattr(data, kind).ids:
            raise UserError(f"--models: a recommender has other {kind} than the data")
    return recommender.model


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("baselines")
