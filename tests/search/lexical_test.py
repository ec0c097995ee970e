"""BM25 against its formula in float64, and the words that code falls apart into."""

import math

import numpy as np
import pytest

from gemb import search
from gemb.search.lexical import words

TEXTS = [
    "def read_lines(path): return open(path).readlines()",
    "class HTTPServer2: pass",
    "def flattenNestedList(items): return [x for xs in items for x in xs]",
    "read read read",
    "",
]


def _by_formula(query, texts, k1, b):
    """BM25 with Lucene's idf, in float64; stop words are kept out by the texts chosen."""
    tokens = [words(text) for text in texts]
    mean = sum(map(len, tokens)) / len(tokens)
    scores = []
    for document in tokens:
        score = 0.0
        for word in words(query):
            df = sum(word in other for other in tokens)
            idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            tf = document.count(word)
            score += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return np.array(scores)


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4)])
def test_scores_match_the_formula(k1, b):
    rng = np.random.default_rng(0)
    vocabulary = ["alpha", "beta", "gamma", "delta", "kilo", "lima", "oscar"]
    texts = [" ".join(rng.choice(vocabulary, rng.integers(1, 12))) for _ in range(30)]
    queries = ["alpha beta", "oscar oscar kilo", "gamma unknown"]
    scores, indices = search.Bm25Searcher(texts, k1=k1, b=b).search(queries, 30)
    for query, score, index in zip(queries, scores, indices, strict=True):
        expected = _by_formula(query, texts, k1, b)
        found = index >= 0
        assert set(index[found].tolist()) == set(np.flatnonzero(expected).tolist())
        np.testing.assert_allclose(score[found], expected[index[found]], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read_http_body", ["read", "http", "body"]),
        ("readHTTPBody2", ["read", "http", "body", "2"]),
        ("XMLParser.parseURL()", ["xml", "parser", "parse", "url"]),
        ("__init__ MAX_SIZE", ["init", "max", "size"]),
        ("queries classes bus is lines", ["query", "classe", "bus", "is", "line"]),
        ("café naïveÉtude 日本語", ["café", "naïveétude", *"日本語", "日本", "本語"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_plain_words_find_identifiers():
    searcher = search.Bm25Searcher(TEXTS)
    indices = searcher.search(["flatten a nested list", "an http server"], 1).indices
    np.testing.assert_array_equal(indices, [[2], [1]])


def test_documents_that_share_no_word_are_no_hits():
    searcher = search.Bm25Searcher(TEXTS)
    scores, indices = searcher.search(["nothing such here", "   ", "the of"], 3)
    assert (indices == -1).all()
    assert (scores == -np.inf).all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="texts: expected words, got none in 2 documents"):
        search.Bm25Searcher(["", " the "])
    with pytest.raises(ValueError, match="queries: expected a list of texts, got str"):
        search.Bm25Searcher(TEXTS).search("read", 2)


SHORT_TEXTS = {
    "chinese": (
        ["猫喜欢吃鱼", "今天天气很好", "北京是中国的首都", "我在学习编程"],
        {"中国的首都": 2, "天气": 1, "鱼": 0, "编程": 3},
    ),
    "japanese": (
        ["猫が魚を食べる", "今日は天気がいい", "東京は日本の首都です", "プログラミングを学ぶ"],
        {"日本の首都": 2, "天気": 1, "魚": 0, "ﾌﾟﾛｸﾞﾗﾐﾝｸﾞ": 3},
    ),
    "thai": (
        ["แมวกินปลา", "วันนี้อากาศดีมาก", "กรุงเทพเป็นเมืองหลวงของไทย", "ฉันเรียนเขียนโปรแกรม"],
        {"เมืองหลวง": 2, "อากาศ": 1, "ปลา": 0, "โปรแกรม": 3},
    ),
    "lao": (["ແມວກິນປາ", "ມື້ນີ້ອາກາດດີ"], {"ອາກາດ": 1, "ແມວ": 0}),
    "khmer": (["ឆ្មាស៊ីត្រី", "ថ្ងៃនេះអាកាសធាតុល្អ"], {"អាកាស": 1, "ឆ្មា": 0}),
    "korean": (["고양이가 물고기를 먹는다", "오늘은 날씨가 좋다"], {"날씨": 1, "고양이": 0}),
    "hindi": (["बिल्ली मछली खाती है", "आज मौसम अच्छा है"], {"मौसम": 1, "मछली": 0}),
}


@pytest.mark.parametrize("language", SHORT_TEXTS)
def test_a_part_of_a_text_without_spaces_finds_it(language):
    texts, queries = SHORT_TEXTS[language]
    hits = search.Bm25Searcher(texts).search(list(queries), k=1)
    assert hits.indices[:, 0].tolist() == list(queries.values())


def test_pairs_of_characters():
    assert words("猫が好き") == ["猫", "好", "猫が", "が好", "好き"]
    assert words("Pythonで読む2回") == ["python", "読", "で読", "読む", "2", "回"]
    assert words("पढ़ना लिखना") == ["पढ़ना", "लिखना"]


def test_spaced_scripts_are_cut_as_ever():
    """Figures of BM25 on English do not change with the scripts that are cut otherwise."""
    texts = [
        "C++ and C# at 50%",
        "naïve café, über straße",
        "кошка ест рыбу",
        "readHTTP_body2",
        "e\u0301",
    ]
    assert [words(text) for text in texts] == [
        ["c", "and", "c", "at", "50"],
        ["naïve", "café", "über", "straße"],
        ["кошка", "ест", "рыбу"],
        ["read", "http", "body", "2"],
        ["e"],
    ]
