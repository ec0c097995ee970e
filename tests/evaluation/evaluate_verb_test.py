"""`gemb evaluate --tasks` and `--mteb` as called, with stub models."""

import json
from types import SimpleNamespace

import pytest
from stub_encoder import StubEncoder
from task_folders import STS, house, write

from gemb.cli.__main__ import run
from gemb.evaluation import comparison
from gemb.evaluation.mteb import run as mteb_run
from gemb.inference.embedder import Embedder


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(comparison, "_DRAWS", 300)
    monkeypatch.setattr(comparison, "_COSTLY_DRAWS", 300)


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Calls the verb with stub models; gives (exit status, stdout, stderr)."""
    stub = staticmethod(lambda place: StubEncoder(seed=len(place)))
    monkeypatch.setattr(Embedder, "load", stub)
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "gemb"))

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            run("evaluate", list(arguments))
        out = capsys.readouterr()
        return left.value.code, out.out, out.err

    return call


@pytest.mark.long
@pytest.mark.extra("eval")
def test_the_verb_writes_results_and_report(call, tmp_path):
    folder, output = house(tmp_path / "house"), tmp_path / "out"
    arguments = ("--model=x/a,x/bb", f"--tasks={folder}", f"--output={output}", "--widths=16,4")
    status, shown, error = call(*arguments)
    assert (status, "Traceback" in error) == (0, False)
    tree = json.loads((output / "results.json").read_text())
    assert set(tree["models"]) == {"a", "bb"}
    assert set(tree["results"]["en_test"]["a"]) == {"16", "4"}
    assert (output / "report.html").stat().st_size > 10_000
    lines = shown.strip().splitlines()
    assert lines[0].split() == ["16", "4"]
    expected = [f"{tree['averages']['a'][width]['tasks']:.3f}" for width in ("16", "4")]
    assert next(line for line in lines if line.startswith("mean of tasks")).split()[3:] == [
        "a", *expected
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model=a",), "--tasks is required"),
        (("--tasks=a",), "--model is required"),
        (("--model=a,a", "--tasks=a"), "a model is given twice"),
        (("--model=a", "--tasks=a", "--widths=many"), "--widths: expected whole numbers"),
        (("--model=a", "--tasks=a", "--workdir=w"), "give only one"),
        (("--model=a", "--tasks=a", "--noscann"), "--scann cannot be combined with --tasks"),
        (("--workdir=w", "--widths=8"), "--widths cannot be combined with --workdir"),
        (("--model=a", "--tasks=no/such"), "no/such: no such folder"),
        ((), "--workdir is required"),
    ],
)
def test_mistakes_at_the_terminal_end_in_one_line(call, arguments, message):
    status, _, error = call(*arguments)
    assert status == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_the_verb_passes_models_widths_and_prompts_to_mteb(call, tmp_path, monkeypatch):
    """Without the library: its tasks and its run of one are stand-ins."""
    about = SimpleNamespace(
        name="STS12", type="STS", main_score="cosine_spearman", dataset={"revision": "r"}
    )
    task = SimpleNamespace(metadata=about, hf_subsets=None, eval_splits=["test"])
    local = write(tmp_path / "t" / "task.json", {"kind": "sts", "files": {"test": "a.tsv"}}).parent
    write(local / "a.tsv", STS)
    prompts, seen = write(tmp_path / "prompts.json", {"STS": "say "}), []

    def measured(model, task):
        seen.append((model.name, model.width, model.prompts))
        return {"cosine_spearman": 0.5}

    library = SimpleNamespace(__version__="0")
    monkeypatch.setattr(mteb_run, "import_mteb", lambda: library)
    monkeypatch.setattr(mteb_run, "get_tasks", lambda names: [task] if names == ["STS12"] else [])
    monkeypatch.setattr(mteb_run, "local_tasks", lambda tasks: [])
    monkeypatch.setattr(mteb_run, "_run", measured)
    output = tmp_path / "out"
    status, shown, error = call(
        "--model=x/a,x/bb", f"--mteb=STS12,{local}", f"--output={output}", "--widths=16,8",
        f"--mteb_prompts={prompts}",
    )  # fmt: skip
    assert status == 0, error
    given = {"STS": "say "}
    assert seen == [(name, width, given) for name in ("a", "bb") for width in (None, 8)]
    tree = json.loads((output / "results.json").read_text())
    assert tree["results"]["STS12"]["bb"] == {w: {"cosine_spearman": 0.5} for w in ("16", "8")}
    assert "STS12 cosine_spearman" in shown
    assert "STS12" in (output / "report.html").read_text()
