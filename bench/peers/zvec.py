"""Zvec: a collection in the process, with a flat index (exact)."""

import numpy as np
import zvec

from . import Peer as Base
from . import batches


class Peer(Base):
    package = "zvec"
    durability = "fsync, msync and fdatasync in flush(); a put that returned is only in its log, not synced"
    durable = True

    def __init__(self, path, dim):
        if path.exists():
            self.rows = zvec.open(str(path))
            return
        index = zvec.FlatIndexParam(metric_type=zvec.MetricType.COSINE)
        vector = zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, dim, index_param=index)
        self.rows = zvec.create_and_open(str(path), zvec.CollectionSchema(name="rows", vectors=vector))

    def put_many(self, ids, vectors):
        for some, rows in batches(ids, vectors, 1000):
            self.rows.insert([zvec.Doc(id=id, vectors={"vector": row}) for id, row in zip(some, rows)])

    def commit(self):
        self.rows.flush()

    def get(self, id):
        return np.asarray(self.rows.fetch(id)[id].vectors["vector"], np.float32)

    def get_many(self, ids):
        found = self.rows.fetch(list(ids))
        return np.array([found[id].vectors["vector"] for id in ids], np.float32)

    def search(self, query, k):
        return [doc.id for doc in self.rows.query(zvec.Query(field_name="vector", vector=query), topk=k)]

    def delete(self, ids):
        for at in range(0, len(ids), 1000):
            self.rows.delete(list(ids[at : at + 1000]))

    def compact(self):
        self.rows.optimize()

    def close(self):
        self.rows.flush()
        self.rows.close()
