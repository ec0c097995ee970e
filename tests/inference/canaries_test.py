"""`gemb check` of a model folder: canaries that agree, and those of another model."""

import shutil

import jax
import pytest

from gemb.cli.__main__ import run
from gemb.models.functional import initial_params
from gemb.models.scratch import from_scratch
from gemb.pretrained import saving
from gemb.processors.text import of_bytes


def saved(folder, seed):
    made = from_scratch(of_bytes(64), layers=1, width=16, heads=2, mlp=16)
    drawn = jax.jit(lambda key: initial_params(made.spec, key))(jax.random.key(seed))
    saving.save(made.with_params(jax.device_get(drawn)), folder)
    return folder


def test_gemb_check_of_a_model(tmp_path, capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            run("check", [str(argument) for argument in arguments])
        return left.value.code, *capsys.readouterr()

    one, other = saved(tmp_path / "one", 0), saved(tmp_path / "other", 1)
    status, _, err = call(one)
    assert status == 2
    assert "has no canaries.json" in err
    assert call(one, "--write_canaries")[0] == 0
    status, out, _ = call(one)
    assert status == 0
    assert "canaries unchanged: 0 of 32" in out
    shutil.copy(one / "canaries.json", other)
    status, out, _ = call(other)
    assert status == 1
    assert "canaries broken" in out
    (tmp_path / "empty").mkdir()
    assert call(tmp_path / "empty", "--write_canaries")[0] == 2
