"""The memory that `ingest` takes does not grow with the source."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import vecstone
from conftest import names

MIB = 1 << 20
BOUND = 400 * MIB
"""Some batches on their way, 64 MiB of the store's buffer, and what allocators keep."""

PEAK = """
    import os, threading, time

    def anonymous():  # without the pages of mapped files, which the system takes back when it wants
        for line in open("/proc/self/status"):
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024

    class Peak:
        def __enter__(self):
            self.begin = self.most = anonymous()
            self.over = threading.Event()
            self.thread = threading.Thread(target=self.watch)
            self.thread.start()

        def watch(self):
            while not self.over.wait(0.005):
                self.most = max(self.most, anonymous())

        def __exit__(self, *_):
            self.over.set()
            self.thread.join()
            print(max(self.most, anonymous()) - self.begin)
"""


def _peak(code: str) -> int:
    """Bytes that a program needs more than it had, while it is in `with Peak()`."""
    program = textwrap.dedent(PEAK) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_it_is_measured() -> None:
    assert _peak("with Peak(): kept = bytearray(os.urandom(1 << 20)) * 450; time.sleep(0.1)") > BOUND


def test_a_large_parquet_file(tmp_path: Path) -> None:
    """300 MiB of vectors and long documents; the store does not know its dimension yet."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    dim, rows = 4096, 250
    random = np.random.default_rng(0)
    schema = pa.schema({"id": pa.int64(), "vector": pa.list_(pa.float32(), dim), "title": pa.string()})
    with pq.ParquetWriter(tmp_path / "rows.parquet", schema, compression="zstd", use_dictionary=False) as writer:
        for group in range(8):
            vectors = random.normal(size=rows * dim).astype("float32")
            title = ["x" * 140_000 + str(group)] * rows
            ids = pa.array(np.arange(rows) + group * rows)
            writer.write(pa.table([ids, pa.FixedSizeListArray.from_arrays(vectors, dim), title], schema=schema))
    grown = _peak(f"""
        import vecstone
        with vecstone.open({str(tmp_path / "store")!r}) as store, Peak():
            done = vecstone.ingest(store, {str(tmp_path / "rows.parquet")!r}, document_columns="title")
            assert done == (2000, 2000, 0, 0), done
    """)
    assert grown < BOUND, f"{grown / MIB:.0f} MiB"


def test_a_long_iterator(tmp_path: Path) -> None:
    """Vectors of 600 MiB, in batches of 8 MiB."""
    grown = _peak(f"""
        import numpy as np, vecstone

        def batches():
            for n in range(75):
                yield np.arange(2000) + 2000 * n, np.full((2000, 1024), n + 1, dtype="float32")

        with vecstone.open({str(tmp_path / "store")!r}) as store, Peak():
            done = vecstone.ingest(store, batches())
            assert done == (150_000, 150_000, 0, 0), done
    """)
    assert grown < BOUND, f"{grown / MIB:.0f} MiB"


def test_batches_of_the_usual_size(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small rows many at once, large ones few, whether or not the store knows its dimension."""
    sizes: list[int] = []
    write = vecstone.Store._put_lines

    def counted(store: vecstone.Store, ids: list[str], *rest: object) -> None:
        sizes.append(len(ids))
        write(store, ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(vecstone.Store, "_put_lines", counted)
    for dim, document, least, most in [(4, None, 2000, 2000), (4096, None, 900, 1100), (4, "x" * 20_000, 700, 900)]:
        sizes.clear()
        columns = {"id": names(2000), "vector": np.ones((2000, dim), dtype="float32")}
        if document is not None:
            columns["document"] = [f'"{document}"'] * 2000
        with vecstone.open(path.parent / f"{dim}-{document is None}") as store:
            vecstone.ingest(store, columns)
        assert least <= max(sizes) <= most and sum(sizes) == 2000, (dim, sizes)
