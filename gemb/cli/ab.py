"""gemb ab: read the logs of an online test and give a verdict that keeps to its plan.

    gemb ab --plan --rate=.1 --lift=.02
    gemb ab --exposures=shown.jsonl --outcomes=clicks.jsonl --metric=click --horizon=6000 --looks=5
    gemb ab --exposures=shown.jsonl --outcomes=clicks.jsonl --metric=click --sequential
    gemb ab --exposures=shown.jsonl --outcomes=clicks.jsonl --interleaving
    gemb ab --releases=releases.jsonl

Exposures are lines with "unit", "arm", "request_id", "time", as servers log them.
Outcomes are lines with "request_id", the metric, and perhaps "time" and "hit". --plan says how many
units of both arms find a difference (--lift) with 80 % power. --horizon is that number: the test is
then read at --looks equally spaced looks by O'Brien-Fleming bounds, whenever the command is run.
--sequential watches without a horizon by a confidence sequence, which needs more units.

There is no verdict (exit status 3) if the arms' sizes differ from the plan (sample-ratio mismatch,
by chi-square and sequentially), or before a planned look. --covariate is a file of "unit", "value"
measured before the exposure (CUPED); its correlation rho is shown, because the variance falls by
rho squared only. --interleaving reads lists that were made of two rankings. --releases has lines of
"offline" and "online" changes, and says whether one predicts the other.

Prints JSON; OUTPUT receives report.html and results.json.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("exposures", "", "File of exposures.", allow_override=True)
flags.DEFINE_string("outcomes", "", "File of outcomes.", allow_override=True)
flags.DEFINE_string("metric", "", "Metric of the outcomes.", allow_override=True)
flags.DEFINE_enum(
    "per", "unit", ["unit", "request"], "What the metric is divided by.", allow_override=True
)
flags.DEFINE_string("experiment", "", "Name of the experiment.", allow_override=True)
flags.DEFINE_string("control", "", "Name of the control arm.", allow_override=True)
flags.DEFINE_integer("horizon", 0, "Planned units of both arms.", 0, allow_override=True)
flags.DEFINE_integer("looks", 5, "Planned looks.", lower_bound=1, allow_override=True)
flags.DEFINE_bool("sequential", False, "Watch without a horizon.", allow_override=True)
flags.DEFINE_string("covariate", "", "File of a covariate of units.", allow_override=True)
flags.DEFINE_float("share", 0.5, "Planned share of the treatment.", allow_override=True)
flags.DEFINE_float("alpha", 0.05, "Share of false alarms.", 1e-3, 0.5, allow_override=True)
flags.DEFINE_bool("drop_unmatched", False, "Leave out other outcomes.", allow_override=True)
flags.DEFINE_bool("interleaving", False, "Two rankings in one list.", allow_override=True)
flags.DEFINE_bool("plan", False, "Plan a test instead.", allow_override=True)
flags.DEFINE_float("rate", 0.0, "Share of units with the outcome.", allow_override=True)
flags.DEFINE_float("deviation", 0.0, "Standard deviation of the outcome.", allow_override=True)
flags.DEFINE_float("lift", 0.0, "Difference to find.", allow_override=True)
flags.DEFINE_integer("units", 0, "Units of both arms.", 0, allow_override=True)
flags.DEFINE_string("releases", "", "File of releases.", allow_override=True)
flags.DEFINE_string("output", "", "Folder to write.", allow_override=True)


def main(argv: list[str]) -> int:
    import json

    from gemb.analysis import online
    from gemb.cli.arguments import check_arguments, check_folder

    check_arguments(argv)
    if FLAGS.plan:
        sizes = {
            name: getattr(FLAGS, name) for name in ("rate", "deviation", "lift", "units", "share")
        }
        print(json.dumps(online.plan_size(**sizes)))
        return 0
    if FLAGS.releases:
        print(json.dumps(online.offline_against_online(online.read_log(FLAGS.releases))))
        return 0
    check_arguments(argv, "exposures", "outcomes", *([] if FLAGS.interleaving else ["metric"]))
    if FLAGS.output:
        check_folder("output")
    exposures, outcomes = (online.read_log(p) for p in (FLAGS.exposures, FLAGS.outcomes))
    names = {"experiment": FLAGS.experiment, "control": FLAGS.control}
    if FLAGS.interleaving:
        tree = online.analyse_interleaving(exposures, outcomes, alpha=FLAGS.alpha, **names)
        print(json.dumps(tree))
        return 0
    return _two_arms(exposures, outcomes, names)


def _two_arms(exposures: list[dict], outcomes: list[dict], names: dict) -> int:
    import json
    from pathlib import Path

    from gemb.analysis import online
    from gemb.files import write_json
    from gemb.reports.monitoring import write_online_page

    plan = online.Plan(**{name: getattr(FLAGS, name) for name in online.Plan._fields})
    tree = online.analyse(
        exposures,
        outcomes,
        plan,
        covariates=online.read_log(FLAGS.covariate) if FLAGS.covariate else None,
        drop_unmatched=FLAGS.drop_unmatched,
        **names,
    )
    print(json.dumps(tree))
    if FLAGS.output:
        write_online_page(Path(FLAGS.output) / "report.html", tree)
        write_json(Path(FLAGS.output) / "results.json", tree)
    return 3 if tree["verdict"] == "refused" else 0


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("ab")
