"""The data sets: float32 rows of length 1, seeded, and queries of the same kind that are not among them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.measure import mixture

PIECE = 100_000  # rows made at a time: a data set begins with the smaller ones
QUERIES = 500
QUERY_SEED = 10_000

Rows = np.ndarray
Set = tuple[Rows, Rows]  # rows, mapped; queries


def noise(rows: int, dim: int, seed: int) -> Rows:
    """Directions that are all as likely."""
    vectors = np.random.default_rng(seed).standard_normal((rows, dim), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def kept(folder: Path, name: str, rows: int, dim: int, make: Callable[[int, int, int], Rows]) -> Set:
    """The data set in its file, which is made if it is not there."""
    path = folder / f"{name}-{rows}x{dim}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        file = np.lib.format.open_memmap(unfinished, "w+", np.float32, (rows, dim))
        for piece, at in enumerate(range(0, rows, PIECE)):
            few = file[at : at + PIECE]
            few[:] = make(len(few), dim, 1 + piece)
        file.flush()
        unfinished.rename(path)
    return np.load(path, mmap_mode="r"), make(QUERIES, dim, QUERY_SEED)


class Data:
    """The data sets of a folder; `quick` are those to try the programme with."""

    def __init__(self, folder: Path, quick: bool):
        self.folder, self.quick = folder, quick

    def rows(self, rows: int) -> int:
        return rows // (50 if rows > PIECE else 10) if self.quick else rows

    def clusters(self, rows: int, dim: int) -> Set:
        """Points around 1,000 centres on the sphere, as the other stores are measured with."""
        return kept(self.folder, "clusters", self.rows(rows), dim, mixture)

    def isotropic(self, rows: int, dim: int) -> Set:
        return kept(self.folder, "noise", self.rows(rows), dim, noise)

    def real(self) -> Set:
        """The first 100,000 texts of bench/make_embeddings.py; queries are the ones behind them."""
        path = self.folder / "minilm.npy"
        if not path.exists():
            raise FileNotFoundError(f"make it with: python bench/make_embeddings.py {path}")
        vectors = np.load(path, mmap_mode="r")
        return vectors[: self.rows(100_000)], np.array(vectors[100_000 : 100_000 + QUERIES])

