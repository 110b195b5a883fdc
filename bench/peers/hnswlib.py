"""hnswlib: an HNSW graph in memory, saved as one file; a pickled list of string ids beside it. Approximate."""

import hnswlib
import numpy as np

from . import Names
from . import Peer as Base


class Peer(Base):
    package = "hnswlib"
    durability = "save_index() of the whole graph in place, no sync call"
    exact = False

    def __init__(self, path, dim):
        path.mkdir(exist_ok=True)
        self.path = path / "index.bin"
        self.names = Names(path / "ids.pickle")
        self.index = hnswlib.Index(space="cosine", dim=dim)
        if self.path.exists():
            self.index.load_index(str(self.path), allow_replace_deleted=True)
        else:
            self.index.init_index(1024, M=16, ef_construction=128, allow_replace_deleted=True)
        self.index.set_ef(64)

    def put_many(self, ids, vectors):
        needed = self.index.get_current_count() + len(ids)
        if needed > self.index.get_max_elements():
            self.index.resize_index(max(needed, 2 * self.index.get_max_elements() if len(ids) == 1 else needed))
        self.index.add_items(vectors, self.names.add(ids))

    def commit(self):
        self.index.save_index(str(self.path))
        self.names.save()

    def get(self, id):
        return self.get_many([id])[0]

    def get_many(self, ids):
        return np.asarray(self.index.get_items(self.names.of(ids)))

    def search(self, query, k):
        return [self.names.ids[number] for number in self.index.knn_query(query, k)[0][0]]

    def delete(self, ids):
        for number in self.names.of(ids):
            self.index.mark_deleted(number)
