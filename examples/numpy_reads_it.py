"""Read a store that is being written to, with nothing but numpy and the standard library.

The vectors of a store lie in a plain file of floats, so numpy can map it. Which row belongs to which id, and which rows
count, is in a log beside it, a list of small records. This page has a reader of both in thirty lines, which takes no
lock and asks nobody: a store is yours even where vecstone is not installed. The whole format is described in
crates/vecstone/src/format/format.md.

    python examples/numpy_reads_it.py
"""

import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PUT_AT_MOST, CONTROL, DELETE = 2**63, 2**64 - 2, 2**64 - 1  # what the offset of a record says
COMMIT, DURABLE, CLOSE = 2, 3, 4  # the first byte of a control record


def read(store: Path) -> tuple[list[bytes], np.ndarray]:
    """Ids and vectors of a store of one segment: what the last commit holds that is proven to be on the disk.

    Checks no checksum, so it is for a store that is well; `vecstone verify` is the one that doubts.
    """
    log = (store / "00000001.idx").read_bytes()
    (dim,) = struct.unpack_from("<I", log, 4 + 8 + 12)  # in the copy of the header of .dat that begins the log
    batches, batch, proven, at = [], [], 0, 0
    while at + 12 <= len(log):
        (length,) = struct.unpack_from("<I", log, at)
        if not 0 < length <= len(log) - at - 12:
            break  # a record that is being written
        body, (offset,) = log[at + 4 : at + 4 + length], struct.unpack_from("<Q", log, at + 4 + length)
        at += 12 + length
        if offset != CONTROL:
            batch.append((body, offset))  # an id, and where its row is, or that it is deleted
        elif body[0] == COMMIT:  # all of it counts; it also says what was durable before
            batches.append((struct.unpack_from("<Q", body, 8)[0], batch))
            proven, batch = max(proven, struct.unpack_from("<Q", body, 64)[0]), []
        elif body[0] in (DURABLE, CLOSE):
            proven = max(proven, struct.unpack_from("<Q", body, 8)[0])

    row_of: dict[bytes, int] = {}
    rows = 0
    for sequence, batch in batches:
        if sequence > proven:
            break
        for id, offset in batch:
            if offset == DELETE:
                row_of.pop(id, None)
            elif offset < PUT_AT_MOST:
                row_of[id] = (offset - 256) // (4 * dim)  # a later put of the same id wins
                rows = row_of[id] + 1
    mapped = np.memmap(store / "00000001.dat", "<f4", "r", 256, (rows, dim))
    return list(row_of), mapped[list(row_of.values())]


WRITER = """
import sys, numpy as np, vecstone

random = np.random.default_rng(7)
with vecstone.open(sys.argv[1], dim=64, metric="cosine") as store:
    store.put_many([f"row-{n}" for n in range(1000)], random.normal(size=(1000, 64)).astype("float32"))
    store["row-3"] = np.ones(64)           # replaced
    del store["row-4"]                     # deleted
    store.flush()
    print("flushed", flush=True)           # what is above is on the disk; the store stays open
    store["too late"] = np.ones(64)        # accepted, and durable at some later time
    sys.stdin.readline()
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if writer.stdout is None or writer.stdout.readline() != "flushed\n":
            sys.exit("the writer did not get as far as its flush: is vecstone installed?")

        # From here on, only numpy.
        ids, vectors = read(store)
        print(f"{len(ids)} rows of {vectors.shape[1]} numbers, while another process has the store open for writing")

        query = np.ones(64, "f4")
        cosine = vectors @ query / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
        nearest = np.argsort(-cosine)[:5]
        for row in nearest:
            print(f"  {1 - cosine[row]:.4f}  {ids[row].decode()}")

        assert "vecstone" not in sys.modules
        assert len(ids) >= 999 and b"row-4" not in ids and abs(cosine[ids.index(b"row-3")] - 1) < 1e-6
        writer.communicate("\n")
        sys.exit(writer.returncode)


if __name__ == "__main__":
    main()
