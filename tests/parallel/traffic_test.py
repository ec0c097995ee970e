"""Traffic as compiled and as predicted, and how benchmarks/scaling.py reads a program."""

import runpy
from pathlib import Path

import pytest

SCALING = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "scaling.py"))

PROGRAM = """HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %g = f32[8,4]{1,0} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %c = f32[6]{0} collective-permute(%x), channel_id=2, source_target_pairs={{0,1}}
}

ENTRY %main (p0: f32[2,4]) -> f32[8,4] {
  %w = (s32[], f32[8,4]) while(%t), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %r = (f32[10]{0}, /*index=1*/bf16[10]{0}) all-reduce(%a, %b), replica_groups={{0,1},{2,3}}, to_apply=%add
  %m = f32[16]{0} all-gather(%x), replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0'}, dimensions={0}
  ROOT %s = f32[5]{0} reduce-scatter(%x), replica_groups=mesh['axis_0'=8] {'axis_0'}, to_apply=%add
}
"""  # noqa: E501


def test_a_program_is_read_as_rings_move_it_and_as_often_as_loops_run():
    assert SCALING["collectives"](PROGRAM, 8) == {
        "all-gather": 3 * 32 * 4 * 3 / 4 + 16 * 4 / 2,
        "collective-permute": 3 * 6 * 4,
        "all-reduce": 2 * (10 * 4 + 10 * 2) / 2,
        "reduce-scatter": 5 * 4 * 7,
    }


@pytest.mark.slow
@pytest.mark.parametrize("form", ["plain", "looped"])
@pytest.mark.parametrize("mesh", ["fsdp", "replica"])
def test_predicted_traffic_is_that_of_the_compiled_step(mesh, form):
    row = SCALING["measure"](mesh, form, 8)
    received, predicted = (sum(row[name].values()) for name in ("collectives", "predicted"))
    assert predicted == pytest.approx(received, rel=0.03)
