"""Weak scaling by compilation alone: FLOPs and traffic of a device on 1 to 256 virtual devices.

    python benchmarks/scaling.py                        # fsdp over all devices
    python benchmarks/scaling.py --form plain --mesh replica fsdp --devices 1 8 64
    python benchmarks/scaling.py --chips                # would the four encoders fit, and how fast

The batch grows with the devices, 8 pairs of 64 + 64 tokens each, through two layers x 128: looped
over, recomputed and in two gradient-cached microbatches (`looped`), or unrolled in one pass
(`plain`). FLOPs are of one device by XLA's cost analysis, which looks into a loop once, so that
only `plain` tells all of them. Received is what a device gets by the collectives of the compiled
program, counted as rings and as often as their loop runs, next to what
`gemb.training.planning.estimate.traffic` predicts. Nothing runs and no array is made. One JSON
line a row, then the table.

`--chips` prints for configs/model/encoder_*.gin at 32,768 pairs of 64 + 256 tokens whether they fit
on 8, 64 and 256 chips, with the settings that `gemb train --dry_run --chips` would advise.
"""

import argparse
import functools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

ROWS, LENGTH = 8, 64
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MESHES = {
    "fsdp": lambda n: (1, n, 1),
    "replica": lambda n: (n, 1, 1),
    "hybrid": lambda n: (max(n // 8, 1), min(n, 8), 1),
    "tensor": lambda n: (1, max(n // 4, 1), min(n, 4)),
}
FORMS = {
    "plain": {},
    "looped": {
        "execution": {"layers": "scan", "remat": "full"},
        "query_microbatches": 2,
        "document_microbatches": 2,
    },
}
ENCODERS = ("308m", "600m", "4b", "7b")
_COLLECTIVE = re.compile(
    r" = (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\((.*)"
)
_SHAPE = re.compile(r"(f32|bf16|f16|s32|u32|pred|s8|u8|f64|s64)\[([\d,]*)\]")
_BYTES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2}


def collectives(text: str, devices: int) -> dict[str, float]:
    """Bytes that a device receives in a compiled program, by kind of collective, as rings.

    A ring of n moves (n - 1) / n of what it gathers or scatters, twice that of what it sums. What
    stands in a loop counts as often as the loop runs.
    """
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        begins = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if begins and not line.startswith(" "):
            name = begins[2]
            entry = name if begins[1] else entry
            bodies[name] = []
        elif name:
            bodies[name].append(line)

    @functools.cache
    def of(name: str) -> tuple[tuple[str, float], ...]:
        found: dict[str, float] = {}
        for line in bodies.get(name, ()):
            own = _received(line, devices)
            if own:
                found[own[0]] = found.get(own[0], 0) + own[1]
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            for inner in re.findall(r"(?:body|to_apply|calls)=%?([\w.\-]+)", line):
                for kind, size in of(inner):
                    found[kind] = found.get(kind, 0) + size * (int(trips[1]) if trips else 1)
        return tuple(found.items())

    return dict(of(entry))


def _received(line: str, devices: int) -> tuple[str, float] | None:
    match = _COLLECTIVE.search(line)
    if not match:
        return None
    result, kind, rest = match.groups()
    size = sum(
        math.prod(int(d) for d in dims.split(",") if d) * _BYTES.get(dtype, 1)
        for dtype, dims in _SHAPE.findall(result)
    )
    n = _group(rest, devices)
    times = {"all-reduce": 2 * (n - 1) / n, "reduce-scatter": n - 1, "collective-permute": 1}
    return kind, size * times.get(kind, (n - 1) / n)


def _group(rest: str, devices: int) -> int:
    """Devices of one group of a collective, in any of the three ways that XLA writes them."""
    axes = re.search(r"replica_groups=mesh\[(.*?)\].*?\{('.*?')\}", rest)
    if axes:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
        named = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", axes[2])
        return math.prod(int(part or sizes[name]) for name, part in named)
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]", rest)
    if iota:
        return int(iota[2])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    return len(listed[1].split(",")) if listed else devices


def measure(mesh_name: str, form_name: str, count: int) -> dict:
    """One row: the step compiled for so many devices."""
    import jax
    import optax
    from jax.sharding import NamedSharding, PartitionSpec

    from gemb import losses
    from gemb.models.encoders.text import TextSpec
    from gemb.models.execution import Execution
    from gemb.models.functional import functional
    from gemb.models.spec import ModelSpec, Rotary, StackSpec, TowerSpec
    from gemb.parallel.mesh import make_mesh
    from gemb.training.objectives import Encoding
    from gemb.training.planning import estimate
    from gemb.training.planning.workload import Settings, Workload
    from gemb.training.state import abstract_state, state_shardings
    from gemb.training.step import make_step

    stack = StackSpec(
        2, 128, 4, 512, gated=True, norm="rms", norm_place="pre", final_norm=True,
        qkv_bias=False, output_bias=False, mlp_bias=False, rotary=(Rotary(),) * 2,
    )  # fmt: skip
    text = TextSpec(1024, 0, stack, types=0, length_limit=LENGTH, embedding_norm=False)
    spec = ModelSpec.of(TowerSpec(text))
    sizes = MESHES[mesh_name](count)
    mesh, optimizer = make_mesh(*sizes), optax.adamw(1e-4)
    places = state_shardings(spec, optimizer, mesh)
    split = NamedSharding(mesh, PartitionSpec(("replica", "fsdp")))
    rows = ROWS * count

    batch = _pairs(rows, LENGTH, LENGTH, split)
    loss = functools.partial(losses.info_nce, temperature=0.05)
    form = FORMS[form_name]
    options = {**form, "execution": Execution(**form.get("execution", {}))}
    encoding = Encoding(functional(spec), **options)
    step = make_step(encoding, loss, optimizer, out_shardings=places)
    with jax.set_mesh(mesh):
        compiled = step.lower(abstract_state(spec, optimizer, places), batch).compile()
    work = Workload(spec, loss, optimizer, _pairs(rows, LENGTH, LENGTH))
    settings = Settings(*sizes, **options)
    return {
        "mesh": sizes,
        "devices": count,
        "flops": compiled.cost_analysis()["flops"],
        "predicted_flops": estimate.flops(work, settings)[0],
        "collectives": collectives(compiled.as_text(), count),
        "predicted": estimate.traffic(work, settings, scatter=False),
        "temp_mib": round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 1),
    }


def weak_scaling(meshes: list[str], form: str, counts: list[int]) -> None:
    """A subprocess a row, since a process has the devices that it began with."""
    table = ["| mesh | FLOPs over one device's | received | predicted | temporaries |"]
    table.append("|---|---|---|---|---|")
    for name in meshes:
        first = None
        for count in counts:
            row = _subprocess(name, form, count)
            first = first or row["flops"]
            row["ratio"] = round(row["flops"] / first, 4)
            print(json.dumps(row), flush=True)
            got, expected = (sum(row[k].values()) / 2**20 for k in ("collectives", "predicted"))
            table.append(
                f"| {'x'.join(map(str, row['mesh']))} | {row['ratio']:.3f} | {got:.2f} MiB | "
                f"{expected:.2f} MiB | {row['temp_mib']} MiB |"
            )
    print("\n".join(table))


def _subprocess(name: str, form: str, count: int) -> dict:
    # Compiled and never run: how good the machine code is does not matter.
    flags = (
        f"--xla_force_host_platform_device_count={count} --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true"
    )
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    about = ["--worker", name, f"--form={form}", f"--devices={count}"]
    command = [sys.executable, __file__, *about]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def chips_table() -> None:
    """The four encoders on five chips: the settings advised, what they take, and how fast."""
    import optax

    from gemb import losses
    from gemb.models.execution import Execution
    from gemb.training.planning.advice import advise, judge
    from gemb.training.planning.chips import CHIPS
    from gemb.training.planning.workload import Settings, Workload

    rows, short, long = 32_768, 64, 256
    loss = functools.partial(losses.info_nce, temperature=0.05)
    print("| encoder | chips | mesh | microbatches | memory, GiB | step, s | MFU |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in ENCODERS:
        work = Workload(_spec(name), loss, optax.adamw(1e-4), _pairs(rows, short, long))
        for chip in CHIPS.values():
            for count in (8, 64, 256):
                best = Execution("bfloat16", "scan", "full")
                start = Settings(1, count, 1, 1, 1, best)
                settings = advise(work, start, chip)
                verdict = judge(work, settings, chip, 0.4)
                needed, usable = sum(verdict.memory.values()) / 2**30, verdict.usable / 2**30
                memory = f"{needed:.1f} of {usable:.1f}"
                speed = f"{verdict.seconds:.3g} | {verdict.mfu:.0%}" if verdict.fits else "no | "
                mesh = "x".join(map(str, settings.mesh.values()))
                print(
                    f"| {name} | {count} {chip.name} | {mesh} | {settings.document_microbatches} | "
                    f"{memory} | {speed} |",
                    flush=True,
                )


def _spec(name: str):
    import gin

    from gemb.training.experiment import Experiment

    gin.clear_config()
    gin.parse_config_file(f"configs/model/encoder_{name}.gin")
    header = "from __gin__ import dynamic_registration\nfrom gemb.training import experiment\n"
    gin.parse_config(header + "experiment.Experiment.model = %MODEL")
    return gin.get_bindings(Experiment)["model"].spec


def _pairs(rows: int, short: int, long: int, sharding=None):
    """A Batch of shapes."""
    import jax

    from gemb.structs import Batch, Tokens

    def array(*shape, dtype="int32"):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    query, document = (
        Tokens(array(rows, length), array(rows, length, dtype="bool")) for length in (short, long)
    )
    number, real = array(rows), array(rows, dtype="bool")
    return Batch(query, document, number, number, number, real, real)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mesh", nargs="*", default=["fsdp"], choices=list(MESHES))
    parser.add_argument("--devices", nargs="*", type=int, default=list(COUNTS))
    parser.add_argument("--form", default="looped", choices=list(FORMS))
    parser.add_argument("--chips", action="store_true", help="the table of encoders and chips")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if options.worker:
        print(json.dumps(measure(options.worker, options.form, options.devices[0])))
    elif options.chips:
        chips_table()
    else:
        weak_scaling(options.mesh, options.form, options.devices)


if __name__ == "__main__":
    main()
