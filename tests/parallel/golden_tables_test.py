"""Where every parameter lies on three meshes: goldens, of a model that has one of everything.

After a change that is meant, write them anew with `python tests/parallel/golden_tables_test.py`.
"""

import os
from pathlib import Path

import pytest

GOLDENS = Path(__file__).parents[1] / "goldens"
MESHES = [(1, 8, 1), (2, 2, 2), (1, 1, 8)]


def table(shape) -> str:
    import optax

    from gemb.models.encoders.text import TextSpec
    from gemb.models.spec import DenseSpec, ModelSpec, Rotary, StackSpec, TowerSpec
    from gemb.parallel.mesh import make_mesh
    from gemb.training.planning.dry_run import sharding_table
    from gemb.training.state import state_shardings

    stack = StackSpec(
        layers=2, width=32, heads=8, kv_heads=4, mlp=64, gated=True, norm_place="both",
        final_norm=True, head_norm=True, rotary=(Rotary(),) * 2, relative_buckets=8,
        first_norm=False, lora_rank=2,
    )  # fmt: skip
    text = TextSpec(vocab=63, positions=16, stack=stack)
    tower = TowerSpec(
        text, pooling="latent_attention", dense=(DenseSpec(32, 24),),
        heads=(("small", (DenseSpec(32, 8, bias=False),)),),
    )  # fmt: skip
    spec = ModelSpec.of(tower)
    return sharding_table(spec, state_shardings(spec, optax.sgd(1.0), make_mesh(*shape))) + "\n"


def golden(shape) -> Path:
    return GOLDENS / f"sharding_{'x'.join(map(str, shape))}.txt"


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_every_parameter_lies_where_the_golden_says(shape):
    assert table(shape) == golden(shape).read_text(), (
        f"{golden(shape).name} differs: if the new layout is meant, run "
        "`python tests/parallel/golden_tables_test.py` and look at the difference"
    )


def test_the_goldens_differ_from_each_other_and_shard_the_large_parameters():
    texts = [golden(shape).read_text() for shape in MESHES]
    assert len(set(texts)) == len(MESHES)
    for text in texts:
        for line in text.splitlines():
            if "/kernel" in line and "lora" not in line:
                assert "fsdp" in line or "tensor" in line, line


if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    for mesh_shape in MESHES:
        golden(mesh_shape).write_text(table(mesh_shape))
