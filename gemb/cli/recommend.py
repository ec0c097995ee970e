"""gemb recommend: recommend items to users with a saved recommender.

    gemb recommend --recommender=runs/baselines/recommender --user=0ad
    gemb recommend --recommender=runs/baselines/recommender --user=0ad,abiword --count=10
    gemb recommend --recommender=DIR --history=libsdl2-2.0-0,libpng16-16
    gemb recommend --recommender=DIR --user=new --filters=section=libs
    gemb recommend --recommender=DIR --features='{"description": "a strategy game"}'
    gemb recommend --recommender=DIR --user=0ad --query="play sound files"
    gemb recommend --recommender=DIR --user=0ad --json
    gemb recommend --recommender=DIR --user=0ad --store=runs/store --keys=sqlite:runs/users.db

A recommender is written by `gemb baselines --save`. Items that a user has are left out. A user that
the recommender does not know gets the list of --history if that is given, else what is popular
(--segment=VALUE: among users of that segment); --features is a JSON object of columns that towers
read. Each list says what made it. --json prints one object per user.

--query is a personalised search: the 500 items whose texts (--query_column) are nearest to the text
are ranked by their nearness and the user's own scores, with --personal as the share of the latter.

With --store and --keys the vectors are those that `gemb release` published: the newest version that
both have of a user, an older one, or popularity (of the user's segment). The recommender then only
says what users have and what is popular.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("recommender", "", "Folder of the recommender.", allow_override=True)
flags.DEFINE_list("user", [], "Ids of users.", allow_override=True)
flags.DEFINE_list("history", [], "Items of a user who is not known.", allow_override=True)
flags.DEFINE_string("segment", "", "Segment of a user who is not known.", allow_override=True)
flags.DEFINE_string("features", "", "Features of a user, as JSON.", allow_override=True)
flags.DEFINE_string(
    "query", "", "Text: ranks what it finds for the user (personalised search).",
    allow_override=True,
)  # fmt: skip
flags.DEFINE_string(
    "query_model", "all-MiniLM-L6-v2", "Model of --query, a folder or a name.", allow_override=True
)
flags.DEFINE_string(
    "query_column", "description", "Column of the items with their texts, for --query.",
    allow_override=True,
)  # fmt: skip
flags.DEFINE_float(
    "personal", 0.5, "Share of the user's own scores next to --query's, 0 to 1.",
    lower_bound=0, upper_bound=1, allow_override=True,
)  # fmt: skip
flags.DEFINE_list("filters", [], "COLUMN=VALUE that items must have.", allow_override=True)
flags.DEFINE_bool("seen", False, "Also recommend items that the user has.", allow_override=True)
flags.DEFINE_integer("count", 5, "Items for each user.", lower_bound=1, allow_override=True)
flags.DEFINE_string("store", "", "Store with the items' vectors.", allow_override=True)
flags.DEFINE_list("keys", [], "Addresses of key stores, with commas.", allow_override=True)
flags.DEFINE_string("name", "vectors", "Name of the store on its server.", allow_override=True)
flags.DEFINE_bool("json", False, "Print JSON lines.", allow_override=True)


def main(argv: list[str]) -> None:
    import json

    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments

    check_arguments(argv, "recommender")
    if not (FLAGS.user or FLAGS.history or FLAGS.segment or FLAGS.features):
        raise UserError(
            "name users with --user, or describe one with --history, --segment or --features"
        )
    given = [name for name in ("query_model", "query_column", "personal") if FLAGS[name].present]
    if given and not FLAGS.query:
        raise UserError(f"--{given[0]}: is read with --query only")
    try:
        features = json.loads(FLAGS.features or "{}")
    except ValueError as error:
        raise UserError(f"--features: not JSON: {error}") from None
    if not isinstance(features, dict):
        raise UserError("--features: expected a JSON object")
    filters: dict[str, set[str]] = {}
    for given in FLAGS.filters:
        column, equals, value = given.partition("=")
        if not equals:
            raise UserError(f"--filters: expected COLUMN=VALUE, got {given!r}")
        filters.setdefault(column, set()).add(value)
    from gemb.recommendation.recommender import Recommender

    recommender = Recommender.load(FLAGS.recommender)
    if FLAGS.store or FLAGS.keys:
        other = features or filters or FLAGS.query
        if other or not (FLAGS.store and len(FLAGS.keys) == 1 and FLAGS.user):
            raise UserError(
                "--store: needs one --keys and --user, and reads no features, filters or query"
            )
        _show(_live(recommender).recommend(FLAGS.user, FLAGS.count))
        return
    if FLAGS.history:
        features["history"] = FLAGS.history
    if FLAGS.segment:
        if not recommender.segment:
            raise UserError("--segment: this recommender has no segments")
        features[recommender.segment] = FLAGS.segment
    if FLAGS.query:
        recommender = recommender.with_texts(FLAGS.query_model, FLAGS.query_column)
    lists = recommender.recommend(
        FLAGS.user or None,
        FLAGS.count,
        features=features or None,
        query=FLAGS.query,
        personal=FLAGS.personal,
        exclude="nothing" if FLAGS.seen else "seen",
        filters=filters,
    )
    _show(lists)


def _live(recommender):
    """The released vectors of --store and --keys."""
    from gemb.files import local_folder
    from gemb.serving.recommending import LiveRecommender
    from gemb.store import VersionStore
    from gemb.store.keyed import open_keyed

    store = VersionStore(local_folder("--store", FLAGS.store))
    return LiveRecommender(store, open_keyed(FLAGS.keys[0], name=FLAGS.name), recommender)


def _show(lists) -> None:
    import json

    for found in lists:
        if FLAGS.json:
            print(json.dumps(found._replace(scores=found.scores.tolist())._asdict()))
            continue
        note = f" ({found.note})" if found.note else ""
        print(f"{found.user or 'new user'}, by {found.source}{note}:")
        for item, score in zip(found.items, found.scores, strict=True):
            print(f"  {score:8.4f}  {item}")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("recommend")
