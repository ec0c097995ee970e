"""The page of a run: whole, escaped, without any reference to the outside."""

import re
from html.parser import HTMLParser

import pytest

from gemb.reports import write_run_page

VOID = {"meta", "link", "br", "use"}


class _Page(HTMLParser):
    """Checks that tags are balanced, and collects them with their attributes and texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def _row(value, scann=True):
    names = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
    row = dict.fromkeys(names, value) | {"queries_per_second": 1234.5, "queries": 321}
    if scann:
        row |= {f"scann_{name}": v for name, v in row.items() if name != "queries"}
        row["scann_agreement@10"] = 0.987
    return row


def _inputs():
    hit = {"name": "<script>alert(1)</script>", "path": "a&b.py", "line": 7, "score": 0.5}
    example = {
        "query": "is 1 < 2 & 3?",
        "relevant": "f<int>",
        "before": [hit | {"relevant": False}],
        "after": [hit | {"relevant": True, "path": None, "line": None}],
        "before_rank": None,
        "after_rank": 1,
    }
    return {
        "title": "A <title> & more",
        "summary": {"steps": 12, "<key>": "<value>"},
        "results": {
            "bm25": {"text": _row(0.25, scann=False)},
            "pretrained": {"96": _row(0.5), "24": _row(0.4)},
            "trained": {"96": _row(0.6), "24": _row(0.3)},
        },
        "loss_curve": [{"step": i, "loss": 3 / i} for i in range(1, 60)],
        "examples": [example] * 3,
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_run_page(path, **_inputs())
    return path.read_text(encoding="utf-8")


@pytest.mark.extra("eval")
def test_the_page_is_whole_and_needs_nothing_else(written):
    page = _Page(written)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("svg") == 4
    assert tags.count("details") == 3
    assert not {"script", "img", "iframe", "object", "embed"} & set(tags)
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data")
    ]
    assert links
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert "@import" not in written
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", written))
    outside = set(re.findall(r"https?://[^\s\"'<>]+", written))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_every_text_is_escaped(written):
    texts = _Page(written).texts
    for text in ("A <title> & more", "<key>", "<value>", "is 1 < 2 & 3?", "f<int>", "a&b.py:7"):
        assert text in texts, text
    assert "<script>" not in written


def test_tables_show_every_figure_and_the_gain(written):
    cells = _Page(written).texts
    for shown in ("0.250", "0.500", "0.600", "0.400", "0.300", "1,234", "0.987"):
        assert shown in cells, shown
    gain, loss = f"{0.6 / 0.5 - 1:+.1%}", f"\u2212{1 - 0.3 / 0.4:.1%}"
    assert gain in cells
    assert loss in cells
    assert any("321 queries" in cell for cell in cells)


def test_ids_are_unique_within_the_page(written):
    ids = [a["id"] for _, a in _Page(written).tags if "id" in a]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', written))
    assert used <= set(ids)
    for identity in set(ids):
        definitions = re.findall(rf'<[^>]* id="{identity}"[^>]*>.*?/>', written, re.DOTALL)
        assert len(set(definitions)) == 1, identity  # the same mark may be defined twice


def test_the_same_input_gives_the_same_bytes(written, tmp_path):
    write_run_page(tmp_path / "again.html", **_inputs())
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == written


@pytest.mark.parametrize("missing", ["results", "loss_curve", "examples", "summary"])
def test_a_part_that_is_missing_leaves_no_hole(missing, tmp_path):
    inputs = _inputs()
    inputs[missing] = type(inputs[missing])()
    write_run_page(tmp_path / "report.html", **inputs)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    heading = {"examples": "Example queries", "summary": "This run", "results": "Exact search"}
    assert heading.get(missing, "Training loss") not in _Page(text).texts
    assert "None" not in text


def test_sizes_speeds_and_the_map_are_shown(tmp_path):
    forms = (("float32", False, 32), ("binary", True, 1))
    rows = [
        {"width": width, "precision": form, "rescored": again, "bytes": bits * width // 8}
        | {"ndcg@10": 0.4 + width / 100 - bits / 999, "recall@10": 0.5, "recall@100": 0.625}
        | {"queries_per_second": 1e6 / width, "mrr@10": 0.1}
        for form, again, bits in forms
        for width in (32, 16)
    ]
    plane = {
        "method": "tsne", "texts": ["<i>ask</i>", "answer"], "groups": ["query", "document"],
        "places": [[0.0, 1.0], [2.0, 3.0]], "links": [[0, 1]],
    }  # fmt: skip
    path = tmp_path / "report.html"
    settings = {"title": "t", "summary": {}, "results": {"trained": {"32": _row(0.5)}}}
    write_run_page(path, **settings, precisions=rows, plane=plane)
    page = path.read_text()
    texts = " ".join(_Page(page).texts)
    for text in (
        "Size and speed",
        "binary, re-scored",
        "31,250",
        "t-SNE: neighbours",
        "query: <i>ask</i>",
    ):
        assert text in texts
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    write_run_page(path, **settings)
    assert "Size and speed" not in path.read_text()


def test_whether_training_converged_is_said_with_the_rule(tmp_path):
    found = {"state": "overfits", "reason": "a <reason>", "rule": "Rule: x", "best_step": 20}
    inputs = _inputs() | {"convergence": found | {"held_out": [(0, 0.5), (1_200, 0.4)]}}
    write_run_page(tmp_path / "report.html", **inputs)
    texts = _Page((tmp_path / "report.html").read_text(encoding="utf-8")).texts
    assert {"Did training converge?", "Overfits", "1,200", "0.4000", "Rule: x"} <= set(texts)
