"""Which version answers, for every state that a roll-out can be in."""

import pytest
import tagged

from gemb.identity import Listed, Version
from gemb.store.chain import HOST_DOWN, ID_ABSENT, NO_COMMON, make_plan


def side(*words):
    """Listed versions from words such as "7.1:live"; generation g is of space g.

    One that is "made" is ready and was never published.
    """
    found = []
    for word in words:
        number, state = word.split(":")
        version = Version.parse(number)
        space, published = tagged.space(version.generation), state != "made"
        state = "ready" if state == "made" else state
        found.append(Listed(version, space, state, published=published))
    return found


@pytest.mark.parametrize(
    ("query", "index", "expected"),
    [
        # one side after the other: the roll-out is safe in each order
        (["7.1:live", "6.1:ready"], ["6.1:live"], ["6.1"]),
        (["6.1:live"], ["7.1:live", "6.1:ready"], ["6.1"]),
        (["7.1:loading", "6.1:live"], ["7.1:live", "6.1:ready"], ["6.1"]),
        (["7.1:live", "6.1:ready"], ["7.1:live", "6.1:ready"], ["7.1", "6.1"]),
        # refreshes of one generation may meet
        (["7.3:live"], ["7.2:live"], ["7.2"]),
        (["7.1:live"], ["7.1:ready", "7.2:live"], ["7.2"]),
        # rolled back on one side: what is newer stays out on both
        (["7.1:ready", "6.1:live"], ["7.1:live", "6.1:ready"], ["6.1"]),
        (["7.1:live", "6.1:ready"], ["7.1:bad", "6.1:live", "5.1:ready"], ["6.1"]),
        # made and never published: it did not pass its gate, or an old generation was refreshed
        (["7.1:live", "6.1:made"], ["7.1:live", "6.1:ready"], ["7.1"]),
        (["7.1:live", "6.1:ready"], ["7.1:live", "6.2:made", "6.1:ready"], ["7.1", "6.1"]),
        # three steps at most
        ([f"{g}.1:{'live' if g == 9 else 'ready'}" for g in range(5, 10)],) * 2
        + (["9.1", "8.1", "7.1"],),
        # nothing in common, nothing published, nothing at all
        (["7.1:live"], ["6.1:live"], []),
        (["7.1:ready"], ["7.1:live"], []),
        ([], [], []),
    ],
)
def test_the_plan_is_the_newest_common_versions(query, index, expected):
    plan = make_plan(side(*query), side(*index), others=["bm25", "popular"])
    assert [str(step.index) for step in plan.steps] == expected
    assert all(step.space == tagged.space(step.query.generation).id for step in plan.steps)
    assert plan.others == ("bm25", "popular")
    if not expected:
        assert plan.first() == (None, "bm25", NO_COMMON)
        assert plan.choose(7, tagged.space(7).id) == (None, "bm25", NO_COMMON)


def test_sides_that_count_for_themselves_meet_by_space():
    same = tagged.space(0)
    query = [Listed(Version(2, 5), same, "live", published=True)]
    index = [Listed(Version(9, 1), same, "live", published=True)]
    (step,) = make_plan(query, index).steps
    assert (step.query, step.index, step.space) == (Version(2, 5), Version(9, 1), same.id)
    number = [Listed(Version(9, 1), tagged.space(1), "live", published=True)]
    assert make_plan(number, index).steps == ()  # one number, two spaces


def test_each_id_falls_back_by_itself_and_says_why():
    both = side("7.1:live", "6.2:ready", "5.1:ready")
    plan = make_plan(both, both, others=["popular"])
    assert plan.generations == (7, 6, 5)
    spaces = {g: tagged.space(g).id for g in plan.generations}
    made = plan.choices([7, 5, -1, 6], spaces)
    assert [c.step and c.step.query.generation for c in made] == [7, 5, None, 6]
    assert [c.fallback for c in made] == ["", ID_ABSENT, ID_ABSENT, ID_ABSENT]
    assert [c.retriever for c in made] == ["", "", "popular", ""]
    # the key store was loaded anew and gives the number to another space: it does not answer
    assert plan.choose(7, tagged.space(8).id) == (None, "popular", ID_ABSENT)


def test_a_host_that_is_down_is_left_out_with_its_reason():
    both = side("7.1:live", "6.1:ready")
    plan = make_plan(both, both, unhealthy={Version(7, 1): HOST_DOWN})
    assert plan.generations == (6,)
    assert f"7.1: {HOST_DOWN}" in plan.reasons
    whole = make_plan(both, both)
    later = whole.without(whole.steps[0], HOST_DOWN)
    assert (later.steps, later.reasons[-1]) == (whole.steps[1:], f"7.1: {HOST_DOWN}")
    assert whole.generations == (7, 6)  # a plan is a value


def test_what_is_left_out_is_said():
    plan = make_plan(
        side("8.1:loading", "7.1:live", "6.1:bad", "4.1:ready"),
        side("9.1:ready", "9.2:made", "7.1:live", "5.1:ready"),
    )
    assert sorted(plan.reasons) == [
        "4.1: only the query side has its space",
        "5.1: only the index side has its space",
        "6.1: bad on the query side",
        "8.1: loading on the query side",
        "9.1: newer than the live version on the index side",
        "9.2: not published on the index side",
    ]
