"""When texts are the same: case, punctuation and spacing aside, and nothing else."""

import pytest

from gemb.curation.duplicates.texts import normalised, text_key, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A State-of-the-Art  car!", "a state of the art car"),
        ("don't", "DONT"),
        ("Straße", "STRASSE"),
        ("ｆｕｌｌ width", "full width"),
        ("it costs 3.5 m", "It costs 3.5 m."),
        ("हिन्दी।", "हिन्दी"),
    ],
)
def test_the_same(one, other):
    assert one != other
    assert normalised(one) == normalised(other)
    assert text_key(one) == text_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C++", "C"),
        ("3.5", "35"),
        ("1 2", "12"),
        ("कि", "का"),
        ("?", "!"),
        ("a < b", "a > b"),
    ],
)
def test_not_the_same(one, other):
    assert normalised(one) != normalised(other)
    assert text_key(one) != text_key(other)


def test_words():
    assert words("It isn't 3,5 -- is it?") == ["it", "isnt", "3.5", "is", "it"]
    assert words("猫が好き") == ["猫", "が", "好", "き"]
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words("...") == []
