"""FAISS: a flat index (exact), saved as one file; a pickled list of string ids beside it."""

import faiss
import numpy as np

from . import Names
from . import Peer as Base


class Peer(Base):
    package = "faiss-cpu"
    durability = "write_index() of everything in place, no sync call: a kill in it loses all"

    def __init__(self, path, dim):
        path.mkdir(exist_ok=True)
        self.path = path / "index.faiss"
        self.names = Names(path / "ids.pickle")
        self.index = faiss.read_index(str(self.path)) if self.path.exists() else faiss.IndexFlatIP(dim)

    def put_many(self, ids, vectors):
        self.index.add(vectors)
        self.names.add(ids)

    def commit(self):
        faiss.write_index(self.index, str(self.path))
        self.names.save()

    def get(self, id):
        return self.index.reconstruct(self.names.numbers[id])

    def get_many(self, ids):
        return self.index.reconstruct_batch(self.names.of(ids).astype(np.int64))

    def search(self, query, k):
        _, rows = self.index.search(query[None], k)
        return [self.names.ids[row] for row in rows[0]]

    def delete(self, ids):
        numbers = self.names.of(ids)
        kept = np.ones(len(self.names.ids), bool)
        kept[numbers] = False
        self.index.remove_ids(numbers.astype(np.int64))  # the rows behind move up
        self.names.keep(kept)
