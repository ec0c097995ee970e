"""`gemb versions` as a registry: what reads a version, where else its space is, what it costs."""

import os
import subprocess
import sys
import time

import pytest

from gemb.cli.__main__ import run
from gemb.release.refresh import refresh
from gemb.store.disk.in_use import readers
from gemb.store.keyed import open_keyed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of Linux")
def test_versions_names_readers_other_stores_and_costs(
    store, encoding, corpus_of, texts, tmp_path, capsys
):
    address = f"sqlite:{tmp_path}/keys.db"
    keyed = open_keyed(address)
    corpora = {"documents": corpus_of(texts)}
    refresh(store, encoding, corpora, keys=[keyed], say=lambda line: None)
    keyed.close()
    path = store.open().folder / "documents" / "vectors.npy"
    code = f"import numpy, time; a = numpy.load({str(path)!r}, mmap_mode='r'); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    try:
        end = time.monotonic() + 50
        while not readers(store.folder) and time.monotonic() < end:
            time.sleep(0.1)
        with pytest.raises(SystemExit):
            run("versions", [str(store), address, "--gb_price=1000"])
    finally:
        process.kill()
        process.wait()
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if " live " in line)
    assert f"read by process {process.pid}" in row
    assert f"also in {address}" in row
    cost = store.versions()[0].bytes / 1e9 * 1000
    assert f" {cost:,.4f} " in row
