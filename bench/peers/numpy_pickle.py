"""What people roll by hand: vectors in a plain file, a pickled list of ids beside it."""

import os

import numpy as np

from . import Names
from . import Peer as Base


class Peer(Base):
    package = "numpy"
    durability = "fsync of both files, but the ids are overwritten in place: a crash there loses all of them"

    def __init__(self, path, dim):
        path.mkdir(exist_ok=True)
        self.path, self.dim = path / "vectors.f32", dim
        self.names = Names(path / "ids.pickle", sync=True)
        self.file = open(self.path, "ab")
        self.map()

    def map(self):
        self.rows = np.memmap(self.path, np.float32, "r").reshape(-1, self.dim) if self.path.stat().st_size else None

    def put_many(self, ids, vectors):
        vectors.tofile(self.file)
        self.names.add(ids)

    def commit(self):
        self.file.flush()
        os.fsync(self.file.fileno())
        self.names.save()
        self.map()

    def get(self, id):
        return np.array(self.rows[self.names.numbers[id]])

    def get_many(self, ids):
        return np.asarray(self.rows[self.names.of(ids)])

    def search(self, query, k):
        scores = self.rows @ query
        best = np.argpartition(scores, -k)[-k:]
        return [self.names.ids[row] for row in best[np.argsort(-scores[best])]]

    def delete(self, ids):
        kept = np.ones(len(self.names.ids), bool)
        kept[self.names.of(ids)] = False
        self.file.close()
        np.asarray(self.rows[kept]).tofile(f"{self.path}.new")
        os.replace(f"{self.path}.new", self.path)
        self.names.keep(kept)
        self.file = open(self.path, "ab")

    def close(self):
        self.file.close()
