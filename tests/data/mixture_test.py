"""Mixtures of every form of pair: exact resume, hosts, rates, epochs, fields, bad records."""

import json

import numpy as np
import pytest
import tokenizers

from gemb.checks import UserError
from gemb.data import forms
from gemb.data.mixing import Task, resolve_rates
from gemb.data.pipeline import mixture
from gemb.data.sources.reading import files
from gemb.processors.text import TextProcessor, of_bytes
from gemb.structs import NO_PROMPTS, Processors, Prompts
from gemb.tokenizers.tokenizer import Tokenizer, byte_tokenizer_json

DECODER = Tokenizer(byte_tokenizer_json(), 512)


def with_mask_token() -> str:
    tokenizer = tokenizers.Tokenizer.from_str(byte_tokenizer_json())
    tokenizer.add_special_tokens(["[MASK]"])
    return tokenizer.to_str()


TOKENIZER = with_mask_token()
FORMS = {
    "pairs": (forms.Pairs(), {}),
    "hard": (forms.Pairs(negatives=2), {}),
    "several": (forms.Pairs(), {"document": "answers"}),
    "graded": (forms.Graded(high=5), {}),
    "classes": (forms.Classification(negatives=3), {}),
    "spans": (forms.SpanCorruption(), {}),
    "dropped": (forms.SpanCorruption(replace="drop"), {}),
    "next": (forms.NextSentence(), {}),
    "cloze": (forms.InverseCloze(), {}),
    "title": (forms.TitleBody(), {}),
    "same": (forms.SameText(), {}),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [
        {
            "query": f"q{i}",
            "document": f"document {i}",
            "answers": [f"answer {i}.{j}" for j in range(3)],
            "negatives": [f"wrong {i}.{j}" for j in range(i % 4)],
            "score": i % 6,
            "label": f"class {i % 7}",
            "title": f"title {i}",
            "text": f"Text {i} says this. " + "It goes on and on. " * (i % 5 + 1) + f"End {i}.",
        }
        for i in range(97)
    ]
    made.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def task(path, name, **options):
    form, columns = FORMS[name]
    sizes = {"query_length": 24, "document_length": 32}
    return Task(files(path), form, columns, **sizes | options)


def processors(prompts=NO_PROMPTS):
    both = TextProcessor(TOKENIZER, 64, prompts)
    return Processors(both, both)


def make(path, names, shard=(0, 1), prompts=NO_PROMPTS, **options):
    tasks = {name: task(path, name) for name in names}
    settings = {"tasks": tasks, "batch_size": 4, "rates": dict.fromkeys(tasks, 1), "prefetch": 1}
    return mixture(processors(prompts), 5, shard, **settings | options)


def prompts_of(batches):
    """{side: what its tasks put in front of texts}."""
    rows = [part.rows for part in batches.parts]
    return {s: {p for each in rows for p in each.prompts[s]} for s in ("query", "document")}


def arrays(batch):
    leaves = [*batch.query[:2], *batch.document[:2], *batch[2:7]]
    return leaves + [batch.fields[name] for name in sorted(batch.fields or {})]


def same(left, right):
    return all(
        a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(arrays(left), arrays(right), strict=True)
    )


def texts(tokens):
    pairs = zip(tokens.ids, tokens.mask, strict=True)
    return [DECODER.decode(ids[mask].tolist()) for ids, mask in pairs]


def check_resume(path, names, shard, **options):
    whole = make(path, names, shard, **options)
    expected = [next(whole) for _ in range(300)]
    part = make(path, names, shard, **options)
    for batch in expected[:120]:
        assert same(batch, next(part))
    state = {name: int(np.array(value)) for name, value in part.get_state().items()}
    resumed = make(path, names, shard, **options)
    resumed.set_state(state)
    for batch in expected[120:]:
        assert same(batch, next(resumed))


@pytest.mark.long
@pytest.mark.parametrize("name", FORMS)
def test_300_batches_are_120_and_180_for_every_form(path, name):
    check_resume(path, [name], (0, 1))


@pytest.mark.long
@pytest.mark.parametrize("homogeneous", [True, False])
@pytest.mark.parametrize("shard", [(0, 1), (0, 2), (1, 2)])
def test_300_batches_are_120_and_180_for_mixtures(path, homogeneous, shard):
    check_resume(path, list(FORMS), shard, homogeneous=homogeneous, buckets=(16, 24))


@pytest.mark.parametrize("homogeneous", [True, False])
@pytest.mark.parametrize("buckets", [(), (16, 24)])
def test_hosts_share_each_batch_out_and_agree_on_its_shape(path, homogeneous, buckets):
    options = {"homogeneous": homogeneous, "buckets": buckets}
    one = make(path, FORMS, **options)
    two = [make(path, FORMS, (i, 2), **options) for i in range(2)]
    for _ in range(40):
        whole, parts = next(one), [next(host) for host in two]
        assert parts[0].document.ids.shape == parts[1].document.ids.shape
        count = len(whole.document_id) // len(whole.positive) - 1
        for host, part in enumerate(parts):
            rows = np.arange(2) + 2 * host
            own = 4 + 2 * count * host + np.arange(2 * count)  # hard negatives, behind positives
            mine = np.concatenate([rows, own])
            expected = whole._replace(
                query=whole.query._replace(ids=whole.query.ids[rows], mask=whole.query.mask[rows]),
                document=whole.document._replace(
                    ids=whole.document.ids[mine], mask=whole.document.mask[mine]
                ),
                positive=np.arange(2, dtype=np.int32) + host * len(mine),  # hosts end to end
                query_id=whole.query_id[rows],
                document_id=whole.document_id[mine],
                query_mask=whole.query_mask[rows],
                document_mask=whole.document_mask[mine],
                fields={name: value[rows] for name, value in (whole.fields or {}).items()},
            )
            assert same(expected, part)


def test_another_number_of_hosts_goes_on_exactly(path):
    one = make(path, FORMS)
    for _ in range(10):
        next(one)
    two = [make(path, FORMS, (i, 2)) for i in range(2)]
    for host in two:
        host.set_state(one.get_state())
    for _ in range(20):
        queries = [next(host).query.ids for host in two]
        np.testing.assert_array_equal(next(one).query.ids, np.concatenate(queries))


@pytest.mark.parametrize("window", [1, 5])
def test_an_epoch_holds_each_record_once_over_both_hosts(path, window):
    tasks = {"pairs": task(path, "pairs", length_window=window)}
    hosts = [make(path, (), (i, 2), tasks=tasks, rates={"pairs": 1}) for i in range(2)]
    # 97 records in batches of 4: 4 * 97 rows are 4 epochs.
    seen = [[text for _ in range(97) for text in texts(next(host).query)] for host in hosts]
    counts = {f"q{i}": 0 for i in range(97)}
    for text in seen[0] + seen[1]:
        counts[text] += 1
    late = {name: count for name, count in counts.items() if count != 4}
    assert (not late) if window == 1 else sum(abs(c - 4) for c in late.values()) <= 2 * 5 * 4
    first = sorted((seen[0][:48] + seen[1][:48]), key=lambda text: int(text[1:]))
    assert len(set(first)) == 96 or window > 1


def test_rates_over_ten_thousand_batches(path):
    asked = {"pairs": 0.7, "same": 0.25, "title": 0.05}
    for homogeneous in (True, False):
        plans = make(path, asked, rates=asked, homogeneous=homogeneous).plans(10_000)
        drawn = np.concatenate([plan.tasks for plan in plans])
        seen = np.bincount(drawn, minlength=3) / len(drawn)
        assert np.abs(seen - list(asked.values())).max() < 0.01
        assert all(len(set(plan.tasks)) == 1 for plan in plans) == homogeneous


def test_plans_do_not_move_the_iterator(path):
    batches, untouched = make(path, FORMS), make(path, FORMS)
    assert same(next(batches), next(untouched))
    batches.plans(50)
    assert same(next(batches), next(untouched))


def test_rates_proportional_and_tempered():
    sizes = {"a": 900, "b": 100}
    np.testing.assert_allclose(resolve_rates("proportional", sizes), [0.9, 0.1])
    np.testing.assert_allclose(resolve_rates("proportional", sizes, 2), [0.75, 0.25])
    np.testing.assert_allclose(resolve_rates({"a": 1, "b": 3}, sizes), [0.25, 0.75])
    for rates, message in (
        ({"a": 0, "b": 1}, "rate of a must be above 0"),
        ({"a": 1}, "'b' has no rate"),
        ({"a": 1, "bb": 1}, "no task is named 'bb'. Did you mean b"),
        ("equal", "proportional"),
    ):
        with pytest.raises(UserError, match=message):
            resolve_rates(rates, sizes)


def test_the_order_that_tasks_are_written_in_decides_nothing(path):
    """A run's config.gin has them sorted, and must give the run's batches."""
    made = [make(path, names) for names in (("same", "hard", "next"), ("hard", "next", "same"))]
    for _ in range(4):
        for left, right in zip(*(arrays(next(batches)) for batches in made), strict=True):
            np.testing.assert_array_equal(left, right)


def test_what_a_task_says_of_its_batches(path):
    tasks = {
        "hard": task(
            path, "hard", batch_size=6, query_prompts=("ask: ", "find: "), temperature=0.02
        ),
        "classes": task(path, "classes", temperature=0.07),
        "graded": task(path, "graded", temperature=0.5),
    }
    batches = make(path, (), tasks=tasks, rates=dict.fromkeys(tasks, 1))
    assert prompts_of(batches) == {"query": {"ask: ", "find: ", ""}, "document": {""}}
    theirs = make(path, (), tasks=tasks, rates=dict.fromkeys(tasks, 1), prompts=Prompts("q: "))
    assert prompts_of(theirs) == {"query": {"ask: ", "find: ", "q: "}, "document": {""}}
    batch = next(b for b in theirs if not b.fields["in_batch"].any())  # classes or graded
    assert all(text.startswith("q: ") for text in texts(batch.query))
    numbers = [plan.tasks[0] for plan in batches.plans(60)]
    prompts = set()
    for number in numbers:
        batch, name = next(batches), batches.names[number]
        rows = 6 if name == "hard" else 4
        assert len(batch.positive) == rows
        assert len(batch.document_id) == rows * {"hard": 3, "classes": 4, "graded": 1}[name]
        assert set(batch.fields) == {"temperature", "in_batch", "scores"}
        assert batch.fields["in_batch"].all() == (name != "classes")
        own = {"hard": 0.02, "classes": 0.07, "graded": 0.5}[name]
        np.testing.assert_array_equal(batch.fields["temperature"], np.full(rows, own, np.float32))
        if name == "hard":
            prompts |= {text.split()[0] for text in texts(batch.query)}
        if name == "graded":
            assert set(batch.fields["scores"]) <= {np.float32(i / 5) for i in range(6)}
    assert prompts == {"ask:", "find:"}


def test_prompts_that_the_model_does_not_embed_with_are_told(path):
    tasks = {"pairs": task(path, "pairs", query_prompts=("ask: ", "find: "))}
    [told] = make(path, (), tasks=tasks, rates={"pairs": 1}).warnings
    assert told.startswith("the model embeds each query with the prompt '', but training reads it")
    assert "with 'ask: ' or 'find: '" in told
    assert "adapt.load.prompts" in told
    assert not make(path, (), prompts=Prompts("ask: "), tasks=tasks, rates={"pairs": 1}).warnings
    assert not make(path, ["pairs"], prompts=Prompts("q: ", "d: ")).warnings  # the model's own


@pytest.mark.parametrize("name", ["hard", "spans"])
def test_a_pooler_that_does_not_see_prompts_gets_no_token_of_them(path, name):
    prompts = Prompts("q: ", "doc: ", pooled=False)
    batch = next(make(path, [name], prompts=prompts))
    for side, prompt in ((batch.query, 3), (batch.document, 5)):  # bytes, behind the opening token
        expected = side.mask.copy()
        expected[:, : 1 + prompt] = False
        np.testing.assert_array_equal(side.pooled, expected)
        assert expected.any()
    assert next(make(path, [name], prompts=prompts._replace(pooled=True))).query.pooled is None


@pytest.mark.parametrize(("only", "homogeneous"), [("classes", True), ("both", False)])
def test_temperatures_are_of_whole_batches(path, only, homogeneous):
    tasks = {
        name: task(path, name, temperature=0.1 if only in (name, "both") else None)
        for name in ("classes", "graded")
    }
    with pytest.raises(UserError, match="homogeneous batches only, and then all of them"):
        make(path, (), tasks=tasks, rates=dict.fromkeys(tasks, 1), homogeneous=homogeneous)


def test_hard_negatives_are_the_records_own_and_missing_ones_masked(path):
    batches = make(path, ["hard"])
    for _ in range(25):
        batch = next(batches)
        negatives = np.array(texts(batch.document)[4:]).reshape(4, 2)
        real = batch.document_mask[4:].reshape(4, 2)
        for query, own, mask in zip(texts(batch.query), negatives, real, strict=True):
            number = int(query[1:])
            assert mask.sum() == min(number % 4, 2)
            assert all(text.startswith(f"wrong {number}.") for text in own[mask])
            assert len(set(own[mask])) == mask.sum()


def test_classes_are_told_apart_from_others(path):
    batches = make(path, ["classes"])
    for _ in range(25):
        documents = texts(next(batches).document)
        for row in range(4):
            shown = [documents[row], *documents[4 + 3 * row : 7 + 3 * row]]
            assert len(set(shown)) == 4
            assert set(shown) <= {f"class {i}" for i in range(7)}


def test_several_positives_all_come(path):
    batches, seen = make(path, ["several"]), {}
    for _ in range(250):
        batch = next(batches)
        for query, document in zip(texts(batch.query), texts(batch.document), strict=True):
            assert document.startswith(f"answer {query[1:]}.")
            seen.setdefault(query, set()).add(document)
    assert sum(map(len, seen.values())) / len(seen) > 2.7


def test_length_windows_save_padding(path):
    def padding(**options):
        tasks = {"same": task(path, "same", query_length=128, document_length=128, **options)}
        settings = {"tasks": tasks, "rates": {"same": 1}, "buckets": range(8, 128, 8)}
        batches = make(path, (), **settings)
        masks = [next(batches).query.mask for _ in range(60)]
        return 1 - sum(m.sum() for m in masks) / sum(m.size for m in masks)

    assert padding(length_window=8) < 0.7 * padding()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"query": ', "broken JSON"),
        ('["x"]', "expected a JSON object"),
        ('{"query": "x"}', "field .document. is missing; there are: query"),
        ('{"query": 3, "document": "y"}', 'field "query" must be a text, got int'),
        ('{"query": "", "document": "y"}', 'field "query" is empty'),
        ('{"query": "x", "document": "x"}', "the query equals its document"),
        ('{"query": "\\ud800", "document": "x"}', "not valid Unicode"),
    ],
)
def test_bad_records_are_told_with_their_line_and_counted(tmp_path, line, message):
    good = [json.dumps({"query": f"q{i}", "document": f"d{i}"}) for i in range(9)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*good[:4], "", line, *good[4:]]) + "\n")
    with pytest.raises(UserError, match=rf"rows\.jsonl:6: .*{message}.*1 of 10 records of t"):
        mixture(processors(), 0, tasks={"t": Task(files(path))}, batch_size=3)
    tasks = {"t": Task(files(path), max_bad_fraction=0.1)}
    batches = mixture(processors(), 0, tasks=tasks, batch_size=3)
    counts = batches.description["tasks"]["t"]
    assert {name: counts[name] for name in ("records", "bad", "unfit", "pairs")} == {
        "records": 10, "bad": 1, "unfit": 0, "pairs": 9,
    }  # fmt: skip
    seen = sorted(text for _ in range(3) for text in texts(next(batches).query))
    assert seen == sorted(f"q{i}" for i in range(9))


def test_other_mistakes_are_named(path, tmp_path):
    tasks = {"pairs": task(path, "pairs", batch_size=8)}
    with pytest.raises(UserError, match="length_window of a task are for homogeneous"):
        make(path, (), tasks=tasks, rates={"pairs": 1}, homogeneous=False)
    bare, tasks = Processors(of_bytes(), of_bytes()), {"s": task(path, "spans")}
    with pytest.raises(UserError, match="no mask token is not among"):
        mixture(bare, 0, tasks=tasks, batch_size=2)
    with pytest.raises(UserError, match=r"the form reads no 'documents'\. Did you mean document"):
        make(path, (), tasks={"p": Task(files(path), columns={"documents": "x"})}, rates={"p": 1})
    with pytest.raises(UserError, match="query_prompts: expected a list"):
        task(path, "pairs", query_prompts="ask: ")
    short = tmp_path / "short.jsonl"
    short.write_text('{"text": "One sentence."}\n')
    with pytest.raises(UserError, match="no record gives a pair"):
        make(path, (), tasks={"n": Task(files(short), forms.NextSentence())}, rates={"n": 1})


def test_hard_negatives_that_no_record_has_are_told(path, capsys):
    make(path, ["hard"])
    assert "warning" not in capsys.readouterr().err
    tasks = {"hard": Task(files(path), forms.Pairs(negatives=2), {"negatives": "typo"})}
    make(path, (), tasks=tasks, rates={"hard": 1})
    said = capsys.readouterr().err
    assert "warning: hard: the first 64 records have no 'typo'; the form asks for 2 a query" in said


def test_another_answer_of_the_query_is_no_negative():
    form = forms.Pairs(negatives=3)
    record = {"query": "q", "document": ["a", "b"], "negatives": ["b", "c", "a", "d"]}
    made = form.make([record], lambda stream, columns: np.full((1, columns), 0.3))
    assert made.negatives == [["c", "d"]]


def test_grades_need_a_range():
    with pytest.raises(UserError, match="low < high"):
        forms.Graded(low=2, high=2)


def test_a_prompt_that_fills_the_whole_length_is_refused(path):
    for side in ("query", "document"):
        prompt = {f"{side}_prompts": ("represent this, at some length: ",)}
        tasks = {"pairs": task(path, "pairs", **prompt)}
        with pytest.raises(UserError, match=f"{side}_length: .* leave no room"):
            make(path, (), tasks=tasks, rates={"pairs": 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"records": "rows.jsonl"}, r"records: got 'rows.jsonl'; .* @reading.files\(\)"),
        ({"records": files}, r"records: got <function files"),
        ({"form": forms.Pairs}, r"form: got <class .*; .* @forms.Pairs\(\)"),
    ],
)
def test_what_is_no_source_or_form_is_told(path, options, message):
    with pytest.raises(UserError, match=message):
        Task(**{"records": files(path)} | options)


def test_impossible_shares_and_prefetches_are_told(path):
    with pytest.raises(UserError, match="prefetch: expected 0 or more"):
        make(path, ["pairs"], prefetch=-1)
    tasks = {"pairs": task(path, "pairs", max_bad_fraction=5.0)}
    with pytest.raises(UserError, match="max_bad_fraction: expected 0 or more and below 1"):
        make(path, (), tasks=tasks, rates={"pairs": 1})


def test_a_template_takes_no_null(path, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"query": "q", "title": null, "text": "x"}\n')
    tasks = {"pairs": Task(files(rows), columns={"document": "{title}\n{text}"})}
    with pytest.raises(UserError, match=r"rows.jsonl:1: the field 'title' must be .*NoneType"):
        make(path, (), tasks=tasks, rates={"pairs": 1})


@pytest.mark.parametrize("template", ["{text.title}", "{text[a]}"])
def test_a_template_names_whole_fields(path, tmp_path, template):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"query": "q", "text": "x"}\n')
    tasks = {"pairs": Task(files(rows), columns={"document": template})}
    with pytest.raises(UserError, match=r"rows.jsonl:1: the field 'text[.\[].*' is missing"):
        make(path, (), tasks=tasks, rates={"pairs": 1})


def test_labels_may_be_numbers_in_files_and_configs():
    form = forms.Classification(labels={0: "negative", 1: "positive"})
    assert form.admit({"text": "x", "label": 1})
    made = form.make([{"text": "x", "label": 1}], lambda _, count: np.zeros((1, count)))
    assert (made.document, made.negatives) == (["positive"], [["negative"]])
