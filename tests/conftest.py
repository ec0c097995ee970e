"""Strict by default: 8 virtual CPU devices, no network, quiet TensorFlow."""

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

import hiding
import pytest

from gemb.checks import installed

# Tests compile much and compute little: LLVM's optimisations would cost more than they save, and
# XLA's newer fusion emitters take longer than the older ones. What a test starts inherits this.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false",
    ]
)
# A program that several tests need is compiled once, by the worker or child that needs it first.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _PROGRAMS = tempfile.mkdtemp(prefix="gemb-tests-")
    atexit.register(shutil.rmtree, _PROGRAMS, ignore_errors=True)
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": _PROGRAMS,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")

# Files of few, slow tests: started first, they do not keep one worker busy when the other is done.
_SLOWEST = (
    "training/hosts_test.py", "mains_test.py", "pretrained/parity_test.py",
    "training/teacher_test.py", "configs_test.py", "training/interruption_test.py",
    "training/scale_test.py", "evaluation/evaluation_suite_test.py",
    "pretrained/families_test.py", "parallel/sharding_test.py",
)  # fmt: skip


# What doctest would take for modules of their own.
collect_ignore_glob = ["*/conftest.py"]

# Compiled programs hold memory maps; a process may have 65,530, and XLA crashes beyond them.
_MAPS, _MOST_MAPS = Path("/proc/self/maps"), 25_000
_EXTRAS = tuple(sorted({library for extra in hiding.EXTRAS.values() for library in extra}))


def pytest_addoption(parser):
    parser.addoption(
        "--hide-peers", action="store_true", help="as if the extra `peers` were not installed"
    )
    parser.addoption("--hide-extras", action="store_true", help="as if no extra were installed")


def pytest_configure(config):
    if config.getoption("--hide-extras"):
        config.add_cleanup(hiding.hide_everywhere(_EXTRAS).cleanup)
    elif config.getoption("--hide-peers"):
        hiding.hide(hiding.EXTRAS["peers"])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    for mark in item.iter_markers("extra"):
        for extra in mark.args:
            for library in hiding.EXTRAS[extra]:
                if not installed(library):
                    pytest.skip(f"needs {library}: pip install 'gemb[{extra}]'")
    for mark in item.iter_markers("peers"):
        for library in mark.args:
            if not installed(library):
                pytest.skip(f"compares with {library}: pip install 'gemb[peers]'")


def pytest_collection_modifyitems(items):
    def place(item) -> int:
        path = item.path.as_posix()
        return next((i for i, name in enumerate(_SLOWEST) if path.endswith(f"/{name}")), 99)

    items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def forgotten_programs():
    """Forgets compiled programs behind a file of tests, once there are many."""
    yield
    import jax

    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()
