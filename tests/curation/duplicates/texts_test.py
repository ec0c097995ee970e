"""When texts are the same: case, punctuation and spacing aside, and nothing else."""

import pytest

from gemb.curation.duplicates.texts import marks, normalised, text_key, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A State-of-the-Art  car!", "a state of the art car"),
        ("don't", "DONT"),
        ("Straße", "STRASSE"),
        ("ｆｕｌｌ width", "full width"),
        ("it costs 3.5 m", "It costs 3.5 m."),
        ("हिन्दी।", "हिन्दी"),
        ("He said “hello”, then left.", 'he said "hello" then left'),
        ("Bonjour !", "bonjour"),
        ("你好，世界。", "你好 世界"),
        ("猫が好き！", "猫が好き"),
        ("a*b", "a * b"),
        ("50 %", "50%"),
        ("５０％", "50%"),
        ("pages 3–5", "pages 3-5"),
        ("−5", "-5"),
        ("5 µm", "5 μm"),
        ("wait...", "Wait…"),
        ("What is C#?", "what is c#"),
        ("é", "e\u0301"),
        ("soft\u00adware", "software"),
        ("Fly with the B52!", "fly with the b52"),
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
        ("C#", "C"),
        ("-5", "5"),
        ("+5", "5"),
        ("±5", "5"),
        ("$5", "5"),
        ("€5", "$5"),
        ("5 °C", "5 °F"),
        ("5 km", "5 m"),
        ("5 mW", "5 MW"),
        ("10 Mb", "10 MB"),
        ("5'", '5"'),
        ("50%", "50"),
        ("3,5", "35"),
        ("1:2", "12"),
        ("10 2", "10.2"),
        ("10²", "102"),
        ("H₂O", "H2O"),
        ("1½", "11/2"),
        ("①", "1"),
        ("ℝ", "R"),
        ("n!", "n"),
        ("5!", "5"),
        ("x-y", "x y"),
        ("x - y", "x y"),
        ("a + b", "a b"),
        ("a * b", "a / b"),
        ("a % b", "a & b"),
        ("a & b", "a && b"),
        ("a == b", "a = b"),
        ("x != y", "x = y"),
        ("x^2", "x2"),
        ("x → y", "x ← y"),
        ("R&D", "RD"),
        ("therapist", "the rapist"),
    ],
)
def test_not_the_same(one, other):
    assert normalised(one) != normalised(other)
    assert text_key(one) != text_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It costs 5 euros.", "It costs euros."),
        ("It is -5 degrees.", "It is 5 degrees."),
        ("It is 5 km to the town.", "It is 5 m to the town."),
        ("It draws 5 mW.", "It draws 5 MW."),
        ("Take vitamin C daily.", "Take vitamin D daily."),
        ("Learn C# quickly.", "Learn C quickly."),
        ("An area of 10² metres.", "An area of 10³ metres."),
        ("Return a * b now.", "Return a / b now."),
        ("Stop if x != y.", "Stop if x = y."),
        ("Keep x-1 of them.", "Keep x+1 of them."),
        ("A half: ½ cup.", "A quarter: ¼ cup."),
    ],
)
def test_near_duplicates_differ_in_no_mark(one, other):
    assert marks(one) != marks(other)
    assert marks(one) == marks(one.upper() if "W" not in one else one)


def test_prose_has_the_same_marks():
    one = "A well-known man - the baker - says: I don't know a thing."
    assert marks(one) == marks("The well known man, the baker said that he knows nothing!")


def test_words():
    assert words("It isn't 3,5 -- is it?") == ["it", "isnt", "3.5", "is", "it"]
    assert words("猫が好き") == ["猫", "が", "好", "き"]
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words("...") == []
