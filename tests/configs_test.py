"""Every experiment parses, is documented, dry-runs; mistakes in configs are one line."""

import inspect
import json
import re
from pathlib import Path

import gin
import pytest
from picture_folders import captioned_folder

from gemb import config, losses
from gemb.checks import UserError
from gemb.training.experiment import Experiment
from gemb.training.planning.dry_run import dry_run

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "configs" / "experiments").glob("*.gin"))
PIECES = (
    "model", "loss", "data", "optimizer", "mesh", "teacher", "execution", "quantize", "objective"
)  # fmt: skip
QUICKSTART = "configs/experiments/quickstart.gin"


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    yield
    gin.clear_config()


@pytest.fixture
def pairs_folder(tmp_path):
    rows = [
        {
            "query": f"add {i} to x",
            "document": f"def f(x): return x + {i}",
            "text": f"Here {i} is added to x. The sum is what comes back.",
        }
        for i in range(40)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("train_stdlib", "train_packages"):
        (tmp_path / f"{name}.jsonl").write_text(text)
    return f"pipeline.pairs.folder = '{tmp_path}'"


# Experiments on files that are made beforehand: binding -> one of the fixture's.
MADE_BEFORE = {
    "code_stage1": ["packages/reading.files.paths", "views/reading.files.paths"],
    "unsupervised": ["reading.files.paths"],
    "code_stage2": ["packages/reading.files.paths", "MINED"],
}

# Experiments on links of users and items, which `links_folder` has.
LINKS = ("recommend_cold", "recommend_debian", "recommend_movielens", "recommend_next")

# Whose step is that of others but for numbers.
LIKE_OTHERS = (
    "code_stage2", "distill_minilm3", "distill_stage1", "distill_stage2", "distill_stage3",
    "distill_two_teachers", "recommend_cold", "recommend_movielens", "recommend_next",
)  # fmt: skip
DRY_RUNS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in LIKE_OTHERS))
    for path in EXPERIMENTS
]


# Experiments on pictures: a model of debug.gin's size, and a folder made here.
PICTURES = {
    "pictures": "configs/model/tiny_pictures.gin",
    "pictures_jasper": "configs/model/tiny_vision_language.gin",
}
VIDEOS = {"video": "configs/model/tiny_videos.gin"}


def debug_files(path):
    if path.stem in LINKS:
        return [str(path), "configs/debug_features.gin"]
    model = (PICTURES | VIDEOS).get(path.stem)
    return [str(path), "configs/debug.gin", *([model] if model else [])]


def links_folder(folder):
    """30 users of 5 among 20 items each, the last for the test."""
    rows = ["user\titem\tsplit\ttime"]
    for user in range(30):
        for place in range(5):
            part = "test" if place == 4 else "train"
            rows.append(f"u{user}\ti{(user + place * 3) % 20}\t{part}\t{place}")
    folder.mkdir()
    (folder / "interactions.tsv").write_text("\n".join(rows) + "\n")
    return folder


def bindings_of(path, pairs_folder):
    home = Path(pairs_folder.split("'")[1])
    if path.stem in PICTURES:
        pytest.importorskip("PIL")
        return [f"pictures.captioned.folder = '{captioned_folder(home / 'pictures')}'"]
    if path.stem in VIDEOS:
        pytest.importorskip("PIL")
        from gemb.data.sources.moving import make_clips

        make_clips(captioned_folder(home / "pictures"), home / "clips", side=32, frames=4)
        return [f"pictures.captioned_videos.folder = '{home / 'clips'}'"]
    if path.stem in LINKS:
        return [f"links.read.folder = '{links_folder(home / 'links')}'"]
    if path.stem not in MADE_BEFORE:
        return [pairs_folder]
    file = pairs_folder.split("'")[1] + "/train_stdlib.jsonl"
    return [f"{name} = '{file}'" for name in MADE_BEFORE[path.stem]]


@pytest.mark.long
@pytest.mark.parametrize("path", DRY_RUNS)
def test_experiment_dry_runs_on_a_laptop(path, pairs_folder):
    config.load(debug_files(path), bindings_of(path, pairs_folder))
    text = dry_run(Experiment(**config.arguments(Experiment)))
    assert re.search(r"parameters +[\d,]+\n", text)
    weight = "features/tables/item" if path.stem in LINKS else "text/stack/layers/0/up/kernel"
    assert weight in text
    assert re.search(r"FLOPs +[\d.,]+ G", text)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiment_header_and_size(path):
    text = path.read_text()
    for field in ("Purpose:", "Command:", "Hardware:", "Time:", "Expected:", "Last run:"):
        assert field in text, f"{path.name}: the header has no {field}"
    bindings = [line for line in text.splitlines() if re.match(r"[\w.]+\.\w+ = ", line)]
    assert len(bindings) <= 15


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_bound_parameter_is_documented(path):
    config.load([str(path)])
    text = gin.config_str()
    for selector, parameter in re.findall(r"^((?:\w+\.)+\w+)\.(\w+) = ", text, re.MULTILINE):
        doc = inspect.getdoc(gin.get_configurable(selector))
        assert re.search(rf"^ +.*\b{parameter}\b.*:", doc, re.MULTILINE), f"{selector}.{parameter}"


@pytest.mark.parametrize("kind", PIECES)
def test_a_piece_defines_one_macro(kind):
    paths = sorted((ROOT / "configs" / kind).glob("*.gin"))
    assert paths
    for path in paths:
        defined = re.findall(r"^([A-Z_]+) = ", path.read_text(), re.MULTILINE)
        assert defined == [kind.upper()], path


def test_files_and_includes_are_found_from_any_folder(tmp_path, monkeypatch):
    config.load([QUICKSTART])
    from_the_checkout = config.resolved(Experiment)
    # A folder `configs` that Python could import, without what an include names.
    (tmp_path / "configs" / "experiments").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in (QUICKSTART, "experiments/quickstart.gin"):
        config.load([name])
        assert config.resolved(Experiment) == from_the_checkout


def test_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    piece = tmp_path / "configs" / "mesh" / "data_parallel.gin"
    piece.parent.mkdir(parents=True)
    piece.write_text((ROOT / "configs" / "mesh" / "fsdp.gin").read_text())
    assert gin_value("make_mesh.fsdp") == "-1"  # included by an experiment of gemb's
    piece.unlink()
    assert gin_value("make_mesh.fsdp") == "1"


def gin_value(parameter: str) -> str:
    config.load([QUICKSTART])
    return re.search(rf"{re.escape(parameter)} = (.*)", config.resolved(Experiment))[1]


def test_an_include_that_does_not_exist_is_named(tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text("include 'mesh/fsdpp.gin'\n")
    with pytest.raises(UserError) as error:
        config.load([str(path)])
    assert "mesh/fsdpp.gin does not exist. Did you mean mesh/fsdp.gin?" in str(error.value)
    assert "mine.gin" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_resolved_config_alone_reruns_the_job(tmp_path):
    config.load([QUICKSTART], ["STEPS = 7"])
    first = config.resolved(Experiment)
    alone = tmp_path / "config.gin"
    alone.write_text(first)
    config.load([str(alone)])
    assert config.resolved(Experiment) == first
    assert "STEPS = 7" in first
    assert "include" not in first


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("losses.info_nce.temprature = 1", "no parameter 'temprature'. Did you mean temperature?"),
        (
            "losses.info_nce.form = 'rign'",
            "form: expected Union[Literal['dense', 'blockwise', 'ring']",
        ),
        ("losses.infonce.temperature = 1", "infonce"),
        ("losses.matryoshka.width = (1,)", "no parameter 'width'. Did you mean widths?"),
        ("experiment.Experiment.step = 1", "step"),
        ("STEPS = '7'", "experiment.Experiment.steps: expected int, got '7'"),
        ("STEPS = True", "experiment.Experiment.steps: expected int, got True"),
        ("WIDTHS = 8", "widths: expected tuple[int, ...], got 8"),
        ("WIDTHS = (8, 4.5)", "widths: expected tuple[int, ...], got (8, 4.5)"),
        ("LEARNING_RATE = None", "peak_rate: expected float, got None"),
        ("EXECUTION = 'bfloat16'", "execution: expected Execution, got 'bfloat16'"),
        ("pipeline.pairs.rates = {'a': 'b'}", "rates: expected Mapping[str, float], got"),
        ("adapt.load.lora = (16,)", "lora: expected tuple[int, float], got (16,)"),
        ("adapt.load.layers = 3", "layers: expected Sequence[int] | None, got 3"),
        ("STEP = 10", "macro STEP is defined but nothing uses it. Did you mean STEPS?"),
        ("experiment.Experiment.steps = %STEPZ", "%STEPZ is used but not defined"),
        ("experiment.Experiment.steps =", "config:"),
    ],
)
def test_mistakes_are_one_line(param, message):
    with pytest.raises(UserError) as error:
        config.load([QUICKSTART], [param])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (
            "MODEL = @scratch.from_scratch",
            "Experiment.model: write the parentheses behind @...from_scr",
        ),
        ("MESH = @mesh.make_mesh()", "Experiment.mesh: expected a reference without parentheses"),
    ],
)
def test_parentheses_too_many_or_too_few_are_one_line(param, message):
    config.load([QUICKSTART, "configs/debug.gin"], [param])
    with pytest.raises(UserError, match=message):
        config.arguments(Experiment)


def test_a_loss_takes_the_settings_of_its_form():
    form = ["losses.info_nce.form = @losses.Blockwise()", "losses.Blockwise.block = 7"]
    config.load([QUICKSTART, "configs/debug.gin"], form)
    assert gin.get_bindings("losses.info_nce")["form"] == losses.Blockwise(block=7)


def test_int8_weights_are_a_piece():
    config.load([QUICKSTART, "configs/debug.gin", "configs/quantize/int8_weights.gin"])
    assert config.arguments(Experiment)["quantize"] is not None
    assert config.arguments(Experiment)["quantize"]({}) == {}


def test_an_optional_reference_is_one():
    own = ["from gemb.training import quantisation"]
    own += ["QUANTIZE = @quantisation.int8_weights"]
    config.load([QUICKSTART, "configs/debug.gin"], own)
    assert config.arguments(Experiment)["quantize"]({}) == {}


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("OPTIMIZER = @optimizers.adamw()", "config: adamw: missing 1 required .*'steps'; bind it"),
        ("LOSS = @losses.info_nce()", "config: info_nce: missing 3 required"),
    ],
)
def test_what_a_config_leaves_out_is_one_line(param, message):
    config.load([QUICKSTART, "configs/debug.gin"], [param])
    with pytest.raises(TypeError) as error:
        config.arguments(Experiment)
    assert re.match(message, config.mistake(error.value))
    assert config.mistake(TypeError("f() missing 1 required positional argument: 'x'")) == ""


def test_a_missing_file_and_a_missing_binding_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.gin does not exist"):
        config.load(["nowhere.gin"])
    config.load([])
    with pytest.raises(UserError, match=r"does not bind experiment\.Experiment"):
        config.configured(Experiment)
    (tmp_path / "half.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "from gemb.training import experiment\nexperiment.Experiment.steps = 3\n"
    )
    config.load([str(tmp_path / "half.gin")])
    message = r"does not bind experiment\.Experiment\.\{model, data, loss, opt"
    with pytest.raises(UserError, match=message):
        config.configured(Experiment)


def test_a_binding_may_bring_its_import():
    negatives = "forms.Pairs.negatives = 2"
    with pytest.raises(UserError, match="import"):
        config.load([QUICKSTART], [negatives])
    config.load([QUICKSTART], ["from gemb.data import forms", negatives])
    assert gin.get_bindings("forms.Pairs") == {"negatives": 2}


def test_execution_needs_no_import():
    config.load([QUICKSTART, "configs/debug.gin"], ["execution.Execution.dtype = 'bfloat16'"])
    assert config.arguments(Experiment)["execution"].dtype == "bfloat16"
