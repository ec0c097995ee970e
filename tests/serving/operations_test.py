"""What operators use: dashboard and alerts know the metrics, probes match the drain, `gemb top`."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import served

pytestmark = pytest.mark.extra("serve")
ROOT = Path(__file__).parents[2]
FILES = ROOT / "launch" / "serving"


def used(text):
    return set(re.findall(r"\bgemb_[a-z_]+", text))


@pytest.mark.parametrize("file", ["grafana.json", "alerts.yaml"])
def test_dashboard_and_alerts_name_metrics_that_exist(file):
    from gemb.serving.metrics import names

    assert used((FILES / file).read_text()) - names() == set()


def test_the_dashboard_shows_every_metric_and_its_panels_do_not_overlap():
    from gemb.serving.metrics import names

    dashboard = json.loads((FILES / "grafana.json").read_text())
    text = json.dumps(dashboard)
    families = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in names()}
    shown = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in used(text)}
    assert families - shown <= {"gemb_batch_tokens"}
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_alerts_are_rules():
    yaml = pytest.importorskip("yaml")
    tree = yaml.safe_load((FILES / "alerts.yaml").read_text())
    rules = tree["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8
    for rule in rules:
        assert rule["annotations"]["summary"].endswith(".")
        for left, right in ("()", "{}", "[]"):
            assert rule["expr"].count(left) == rule["expr"].count(right)


def test_probes_and_timeouts_match_the_drain():
    yaml = pytest.importorskip("yaml")
    from gemb.serving.server import _FINISH

    deployment, service = yaml.safe_load_all((FILES / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    delay = float(re.search(r"--drain_delay=(\d+)", " ".join(container["args"]))[1])
    ready = container["readinessProbe"]
    assert ready["httpGet"]["path"] == "/ready"
    assert ready["periodSeconds"] * ready["failureThreshold"] < delay
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert pod["terminationGracePeriodSeconds"] > delay + _FINISH
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]}
    unit = (FILES / "gemb-serve.service").read_text()
    stop = int(re.search(r"TimeoutStopSec=(\d+)", unit)[1])
    assert stop > int(re.search(r"--drain_delay=(\d+)", unit)[1]) + _FINISH


def test_flags_of_the_files_exist():
    from absl import flags

    import gemb.cli.serve  # noqa: F401

    for file in FILES.iterdir():
        for flag in re.findall(r"(?<![\w-])--([a-z_]+)=", file.read_text()):
            known = flag in flags.FLAGS or flag == "build-arg"
            assert known, f"{file.name}: --{flag}"


def test_the_image_has_what_it_copies_and_extras_that_exist():
    text = (FILES / "Dockerfile").read_text()
    setup = (ROOT / "setup.py").read_text()
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    for extra in re.search(r"^ARG EXTRAS=(.*)$", text, re.MULTILINE)[1].split(","):
        assert f'"{extra}": [' in setup
    assert 'ENTRYPOINT ["gemb", "serve"' in text


@pytest.mark.slow
def test_the_steps_of_the_image_make_a_package_with_the_page(tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    for line in re.findall(r"^COPY (.*)$", (FILES / "Dockerfile").read_text(), re.MULTILINE):
        *names, to = line.split()
        for name in names:
            target = tmp_path / to.strip("/")
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, target, ignore=ignored)
            else:
                shutil.copy(ROOT / name, target)
    out = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "--no-index", f"--target={out}", str(source)], check=True)
    assert (out / "gemb" / "serving" / "http" / "page.html").is_file()


@pytest.fixture(scope="module")
def server(places):
    made = served.Running(models=[places["model"]], indexes=[places["index"]])
    yield made
    made.close()


def test_top_shows_a_server_that_answers(server, capsys):
    import threading

    from gemb.cli.__main__ import run

    stop = threading.Event()

    def client():
        while not stop.is_set():
            server.post("/v1/search", query="forest")
            server.post("/v1/embeddings", input="x", model="none")

    thread = threading.Thread(target=client)
    thread.start()
    with pytest.raises(SystemExit) as left:
        run("top", [server.url, "--every=0.5", "--rounds=1"])
    stop.set()
    thread.join()
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert re.search(r"/v1/search +\d+\.\d +\d", said), said
    assert "404:" in said
    assert "0 late compiles" in said
    with pytest.raises(SystemExit) as left:
        run("top", ["http://127.0.0.1:9", "--rounds=1"])
    assert left.value.code == 2
    assert "does not answer" in capsys.readouterr().err


def test_quantiles_of_two_looks_are_those_of_what_happened_between():
    from gemb.serving.live import page, parsed

    before = parsed('gemb_requests_total{code="200",route="/a"} 100\ngemb_ready 1\n')
    now = parsed(
        'gemb_requests_total{code="200",route="/a"} 150\ngemb_ready 1\n'
        'gemb_request_seconds_bucket{le="0.01",route="/a"} 45\n'
        'gemb_request_seconds_bucket{le="0.05",route="/a"} 49\n'
        'gemb_request_seconds_bucket{le="+Inf",route="/a"} 50\n'
    )
    line = next(line for line in page("x", before, now, 2.0).splitlines() if "/a" in line)
    assert line.split() == ["/a", "25.0", "10.0", "50.0", "50.0"]
