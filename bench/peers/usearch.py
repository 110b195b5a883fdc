"""USearch: an HNSW index of integers, a pickled list of string ids beside it; search as its exact scan."""

import numpy as np
from usearch.index import Index

from . import Names
from . import Peer as Base


class Peer(Base):
    package = "usearch"
    durability = "save() of the whole index in place, no sync call"

    def __init__(self, path, dim):
        path.mkdir(exist_ok=True)
        self.path = path / "index.usearch"
        self.names = Names(path / "ids.pickle")
        self.index = Index(ndim=dim, metric="cos", dtype="f32", connectivity=16, expansion_add=128)
        if self.path.exists():
            self.index.load(str(self.path))

    def put_many(self, ids, vectors):
        self.index.add(self.names.add(ids), vectors)

    def put(self, id, vector):
        self.index.add(int(self.names.add([id])[0]), vector)

    def commit(self):
        self.index.save(str(self.path))
        self.names.save()

    def get(self, id):
        return self.index.get(self.names.numbers[id])

    def get_many(self, ids):
        return np.asarray(self.index.get(self.names.of(ids)))

    def search(self, query, k):
        return [self.names.ids[number] for number in self.index.search(query, k, exact=True).keys]

    def delete(self, ids):
        self.index.remove(self.names.of(ids))
