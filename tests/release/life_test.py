"""A whole life of a store, by the script of launch/, on two small packages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "code_search.sh"
FUNCTION = '''
def {name}(path):
    """{doc} the {name} of a file."""
    with open(path) as file:
        return {number}, file.read()
'''


def call(*arguments):
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip


@pytest.fixture
def packages(tmp_path):
    folders = [tmp_path / "packages" / name for name in ("one", "two")]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for module in range(8):
            made = (
                FUNCTION.format(name=f"part{number}{module}{n}", doc="Read or count", number=n)
                for n in range(10)
            )
            (folder / f"module{number}{module}.py").write_text("".join(made))
    return folders


@pytest.mark.slow
def test_code_search_is_released_refreshed_retrained_and_rolled_back(tmp_path, packages):
    done = call("--small", f"--python={sys.executable}", f"--workdir={tmp_path}/work", *packages)
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout
    assert "version 1.1 is published" in said
    assert re.search(r"refreshes 1\.1: \d+ same, .* 1 distinct texts to encode", said)
    assert "version 1.2 is published" in said
    assert "version 2.1 is published" in said
    assert "version 1.2 is live, 2.1 was" in said
    answers = re.split(r"\+ gemb search .*\n", said)[1:]
    first, refreshed, retrained, rolled_back = (
        text.split("\n+ ")[0].splitlines()[:5] for text in answers
    )
    assert refreshed == rolled_back
    assert first != retrained
    assert said.rstrip().endswith("no faults")


def test_mistakes_are_one_line(tmp_path):
    (tmp_path / "file").touch()
    for arguments, message in [
        (["--what"], "unknown argument --what"),
        ([f"--workdir={tmp_path}"], "is not empty"),
    ]:
        done = call(*arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert message in done.stderr
