"""OmenDB: one database with its default graph index (search is approximate)."""

import numpy as np
import omendb

from . import Peer as Base
from . import batches


class Peer(Base):
    package = "omendb"
    durability = "a single put: fsync; many: flush()"
    durable = True
    exact = False

    def __init__(self, path, dim):
        path.mkdir(exist_ok=True)
        name = str(path / "rows")
        there = any(path.iterdir())
        self.store = omendb.open(name) if there else omendb.create(name, {"metric": "cosine", "dense": {"dim": dim}})

    def put_many(self, ids, vectors):
        for some, rows in batches(ids, vectors, 10_000):
            self.store.set([{"id": id, "vector": row} for id, row in zip(some, rows.tolist())])

    def put(self, id, vector):
        self.store.set(id, vector.tolist())

    def commit(self):
        self.store.flush()

    def get(self, id):
        return np.asarray(self.store.get(id)["vector"], np.float32)

    def get_many(self, ids):
        return np.asarray([found["vector"] for found in self.store.get_batch(list(ids))], np.float32)

    def search(self, query, k):
        return [hit["id"] for hit in self.store.search(query.tolist(), k)]

    def delete(self, ids):
        self.store.delete(list(ids))

    def compact(self):
        self.store.compact()

    def close(self):
        self.store.close()
