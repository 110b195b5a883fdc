"""One file for each store that is measured, each with a class `Peer` that uses it the way its own docs call fast."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class Peer:
    """What the runner asks of a store. Ids are strings, vectors are float32 of length 1, the metric is cosine."""

    package = ""  # what pip calls it
    durability = ""  # what commit() calls, in one line of the table
    durable = False  # whether what commit() acknowledged survives a power cut, by those calls
    exact = True  # whether search() looks at every vector

    def __init__(self, path: Path, dim: int):
        """Opens the store at `path`, which is made if it is not there."""
        raise NotImplementedError

    def put_many(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        raise NotImplementedError

    def put(self, id: str, vector: np.ndarray) -> None:
        self.put_many([id], vector.reshape(1, -1))

    def commit(self) -> None:
        """As durable as its documented flush, commit or save makes what was put before."""

    def put_durable(self, id: str, vector: np.ndarray) -> None:
        self.put(id, vector)
        self.commit()

    def ready(self) -> None:
        """What its docs do once after a bulk load, before reading: indexes."""

    def get(self, id: str) -> np.ndarray:
        raise NotImplementedError

    def get_many(self, ids: Sequence[str]) -> np.ndarray:
        """In the order of `ids`."""
        raise NotImplementedError

    def search(self, query: np.ndarray, k: int) -> list[str]:
        """Ids of the nearest, nearest first."""
        raise NotImplementedError

    def delete(self, ids: Sequence[str]) -> None:
        raise NotImplementedError

    def compact(self) -> None:
        """What its docs do to get the space of deleted rows back."""

    def close(self) -> None:
        pass


class Names:
    """String ids for a store that knows integers only: a list, pickled beside it, as people keep them by hand."""

    def __init__(self, path: Path, sync: bool = False):
        self.path, self.sync = path, sync
        self.ids: list[str] = pickle.loads(path.read_bytes()) if path.exists() else []
        self.numbers = {id: number for number, id in enumerate(self.ids)}

    def add(self, ids: Sequence[str]) -> np.ndarray:
        """Numbers of new ids."""
        first = len(self.ids)
        self.ids.extend(ids)
        self.numbers.update(zip(ids, range(first, len(self.ids))))
        return np.arange(first, len(self.ids), dtype=np.uint64)

    def of(self, ids: Sequence[str]) -> np.ndarray:
        return np.fromiter(map(self.numbers.__getitem__, ids), np.uint64, len(ids))

    def keep(self, mask: np.ndarray) -> None:
        """Numbers the ids anew, those that are left."""
        self.ids = [id for id, kept in zip(self.ids, mask) if kept]
        self.numbers = {id: number for number, id in enumerate(self.ids)}

    def save(self) -> None:
        with open(self.path, "wb") as file:
            pickle.dump(self.ids, file, pickle.HIGHEST_PROTOCOL)
            if self.sync:
                file.flush()
                os.fsync(file.fileno())


def batches(ids: Sequence[str], vectors: np.ndarray, rows: int):
    for at in range(0, len(ids), rows):
        yield ids[at : at + rows], vectors[at : at + rows]
