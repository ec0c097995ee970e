"""Arms, interleaving, the log of exposures, roll-outs that go back by themselves."""

import collections
import hashlib
import json
import random

import pytest
import served

from gemb.checks import UserError

pytestmark = pytest.mark.extra("serve")


def test_buckets_are_the_formulas_and_even():
    from gemb.serving.experiments.arms import bucket

    text = b"4:saltuser-7"
    whole = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    assert bucket("salt", "user-7") == whole % 10_000
    counts = collections.Counter(bucket("s", f"u{i}") // 1000 for i in range(20_000))
    chi = sum((count - 2000) ** 2 / 2000 for count in counts.values())
    assert chi < 27.9  # p = .001 at nine degrees of freedom
    both = collections.Counter(
        (bucket("a", f"u{i}") < 5000, bucket("b", f"u{i}") < 5000) for i in range(20_000)
    )
    assert all(abs(count - 5000) < 250 for count in both.values())  # other salts, other draws


def test_arms_are_sticky_and_grow_without_moving_units():
    from gemb.serving.experiments.arms import Arm, Experiment

    few = Experiment("x", arms=[Arm("new", 0.1)])
    more = Experiment("x", arms=[Arm("new", 0.5)])
    units = [f"u{i}" for i in range(5000)]
    first = {unit for unit in units if few.arm(unit)}
    assert first <= {unit for unit in units if more.arm(unit)}
    assert abs(len(first) / 5000 - 0.1) < 0.02
    assert all(few.arm(unit) == few.arm(unit) for unit in units[:100])


def plain_team_draft(first, second, count, coins):
    """The paper's loop, with the coins that were tossed."""
    shown, a, b = [], set(), set()
    while len(shown) < count and (set(first) - a - b or set(second) - a - b):
        left = [[d for d in each if d not in a | b] for each in (first, second)]
        if not left[0] or not left[1]:
            team = 0 if left[0] else 1
        elif len(a) != len(b):
            team = 0 if len(a) < len(b) else 1
        else:
            team = next(coins)
        document = left[team][0]
        (a, b)[team].add(document)
        shown.append((document, "ab"[team]))
    return shown


def test_team_draft_is_the_papers():
    from gemb.serving.experiments.interleaving import team_draft

    for seed in range(50):
        draw = random.Random(seed)
        first = draw.sample(range(20), 10)
        second = draw.sample(range(20), 10)
        made = team_draft(first, second, 8, random.Random(seed))
        coins = iter(_coins(made))
        assert made == plain_team_draft(first, second, 8, coins)
        assert len({each for each, _ in made}) == 8
    wins = collections.Counter(team_draft([1], [2], 1, random.Random(s))[0][1] for s in range(1000))
    assert abs(wins["a"] - 500) < 80


def _coins(made):
    """Who picked first in each round."""
    a = b = 0
    for _, team in made:
        if a == b:
            yield "ab".index(team)
        a, b = a + (team == "a"), b + (team == "b")


def test_a_roll_out_grows_and_goes_back():
    from gemb.serving.experiments.arms import Rollout
    from gemb.serving.experiments.rollout import Outcome, Progress

    def run(new):
        old = Outcome(0.01)
        progress, said = Progress(Rollout("7.1", "6.1", requests=100)), []
        for _ in range(1000):
            said += filter(None, [progress.add("6.1", old), progress.add("7.1", new)])
        return progress, said

    progress, said = run(Outcome(0.01))
    assert progress.done
    assert said == ["7.1 has 10%", "7.1 has 50%", "7.1 has 100%"]
    for bad, why in (
        (Outcome(0.01, failed=True), "errors"),
        (Outcome(0.1), "p95"),
        (Outcome(0.01, fallback=True), "fallbacks"),
        (Outcome(0.01, empty=True), "empty"),
    ):
        progress, said = run(bad)
        assert progress.share == 0
        assert why in progress.stopped
        assert said == [f"went back to 6.1: {progress.stopped}"]
    assert run(Outcome(0.013))[0].done


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"experiments": [{"name": "a b"}]}, "lower-case"),
        ({"experiments": [{"name": "a"}, {"name": "a"}]}, "twice"),
        ({"experiments": [{"name": "a", "arms": [{"name": "x", "share": 1.2}]}]}, "sum to at most"),
        ({"experiments": [{"name": "a", "arm": []}]}, "unknown field"),
        ({"experiments": [{"name": "a", "rollout": {"new": "2.1", "old": "1.1",
                                                    "steps": [0.5, 0.1]}}]}, "rising"),
        ([], "cannot be read"),
    ],
)  # fmt: skip
def test_mistakes_in_the_file_are_named(tmp_path, tree, said):
    from gemb.serving.experiments import arms

    file = tmp_path / "experiments.json"
    file.write_text(json.dumps(tree))
    with pytest.raises(UserError, match=said):
        arms.read(file)


def test_exposures_rotate_and_lose_no_line(tmp_path):
    from gemb.serving.experiments.exposures import Exposures

    log = Exposures(tmp_path / "log" / "shown.jsonl", most=200)
    for number in range(50):
        log.write({"request_id": number})
    log.close()
    lines = [
        json.loads(line)["request_id"]
        for file in (tmp_path / "log").iterdir()
        for line in file.read_text().splitlines()
    ]
    assert sorted(lines) == list(range(50))
    assert len(list((tmp_path / "log").iterdir())) > 2


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    corpus = served.write_corpus(folder / "corpus")
    for seed in (0, 1):
        model = served.save_model(folder / f"tiny{seed}", seed)
        served.publish(folder / "store", model, corpus)
    file, log = folder / "experiments.json", folder / "shown.jsonl"
    file.write_text('{"experiments": []}')
    made = served.Running(releases=[folder / "store"], experiments=str(file), exposures=str(log))
    made.file, made.exposures = file, log
    yield made
    made.close()


def change(server, *experiments):
    """Writes the file, and waits until the server has read it."""
    server.file.write_text(json.dumps({"experiments": experiments}))
    wanted = [each["name"] for each in experiments]
    running = server.experiments
    served.until(lambda: [each.name for each in running._by_index.values()] == wanted)


def test_arms_answer_by_their_versions_and_are_logged(server):
    arms = [{"name": "old", "share": 0.4, "answer": "1.1"}, {"name": "new", "share": 0.4}]
    arms.append({"name": "words", "share": 0.2, "answer": "bm25"})
    change(server, {"name": "ranking", "arms": arms})
    before = len(server.exposures.read_text().splitlines())
    seen = {}
    for unit in [f"user-{i}" for i in range(12)] * 2:
        status, answer = server.post("/v1/search", {"X-Unit": unit}, query="forest", k=3)
        assert status == 200
        expected = {"old": "1.1", "new": "2.1", "words": None}[answer["arm"]]
        assert (answer["version"], answer["fallback"]) == (expected, None)
        assert seen.setdefault(unit, answer["arm"]) == answer["arm"]  # sticky
    assert set(seen.values()) == {"old", "new", "words"}
    text = server.exposures.read_text()
    lines = [json.loads(line) for line in text.splitlines()][before:]
    assert len(lines) == 24
    assert {"experiment", "arm", "unit", "version", "hits", "request_id", "time"} <= set(lines[0])
    assert "user-1" not in text
    assert "forest" not in text
    assert len({line["unit"] for line in lines}) == 12


def test_two_rankings_are_interleaved(server):
    arm = {"name": "both", "share": 1.0, "answer": "2.1", "interleave": "1.1"}
    change(server, {"name": "mixed", "arms": [arm]})
    _, answer = server.post("/v1/search", query="forest", k=6)
    line = json.loads(server.exposures.read_text().splitlines()[-1])
    assert line["hits"] == [hit["id"] for hit in answer["hits"]]
    assert len(line["teams"]) == 6
    rankings = {}
    for team, version in (("a", "2.1"), ("b", "1.1")):
        _, plain = server.post("/v1/search", query="forest", k=6, version=version)
        rankings[team] = [hit["id"] for hit in plain["hits"]]
    coins = iter(_coins([(0, team) for team in line["teams"]]))
    made = plain_team_draft(rankings["a"], rankings["b"], 6, coins)
    assert [document for document, _ in made] == line["hits"]


def test_shadow_traffic_is_compared_and_not_shown(server):
    arm = {"name": "all", "share": 1.0}
    change(server, {"name": "shadowed", "arms": [arm], "shadow": "1.1", "shadow_share": 1.0})
    for _ in range(3):
        assert server.post("/v1/search", query="forest")[1]["version"] == "2.1"
    count = server.state.metrics.registry.get_sample_value
    served.until(lambda: count("gemb_shadow_overlap_count") == 3)


def test_a_roll_out_on_the_server_goes_back_when_searches_fail(server):
    from gemb.store.keyed import HostError

    steps = server.state.chains["store"].steps
    plan = {"new": "2.1", "old": "1.1", "steps": [0.5, 1.0], "requests": 8}
    change(server, {"name": "roll-out", "rollout": plan})

    def down(queries, k):
        raise HostError("down")

    kept, steps[0].searcher.search = steps[0].searcher.search, down
    try:
        for number in range(40):
            status, _ = server.post("/v1/search", {"X-Unit": f"u{number}"}, query="forest")
            assert status == 200  # the older version answers
        progress = server.experiments._progress["roll-out"]
        assert "fallbacks" in progress.stopped
        answers = [
            server.post("/v1/search", {"X-Unit": f"u{n}"}, query="forest")[1] for n in range(10)
        ]
        assert {answer["version"] for answer in answers} == {"1.1"}
        assert {answer["arm"] for answer in answers} == {"old"}
    finally:
        steps[0].searcher.search = kept


def test_a_broken_file_leaves_the_experiments_before(server, capfd):
    was = dict(server.experiments._by_index)
    server.file.write_text("{")
    served.until(lambda: "experiments not read" in capfd.readouterr().err)
    assert server.experiments._by_index == was


def test_the_spot_check_notices_a_model_that_gives_other_vectors(server):
    from gemb.serving import spot_check

    step = server.state.chains["store"].steps[0]
    assert spot_check.cosine(step) > 0.999
    assert spot_check.check(server.state)
    kept = step.model
    step.model = server.state.chains["store"].steps[1].model
    try:
        assert not spot_check.check(server.state)
        status, answer, _ = server.ask("GET", "/ready")
        assert status == 503
        assert "stored vectors" in answer["error"]["message"]
    finally:
        step.model = kept
    assert spot_check.check(server.state)
    assert server.ask("GET", "/ready")[0] == 200
