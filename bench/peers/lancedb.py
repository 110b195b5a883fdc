"""LanceDB: a table of id and vector, a BTree index of the ids, no index of the vectors (so that search is exact)."""

from datetime import timedelta

import lancedb
import numpy as np
import pyarrow as pa

from . import Peer as Base


class Peer(Base):
    package = "lancedb"
    durability = "no sync call at all: a kill loses nothing, a power cut may"

    def __init__(self, path, dim):
        schema = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), dim))])
        self.dim, self.schema = dim, schema
        self.table = lancedb.connect(path).create_table("rows", schema=schema, exist_ok=True)

    def put_many(self, ids, vectors):
        rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.dim)
        self.table.add(pa.table([pa.array(ids), rows], schema=self.schema))

    def ready(self):
        self.table.create_scalar_index("id", index_type="BTREE")

    def get(self, id):
        return self.get_many([id])[0]

    def get_many(self, ids):
        listed = ", ".join(f"'{id}'" for id in ids)
        found = self.table.search().where(f"id IN ({listed})").limit(len(ids)).to_arrow().combine_chunks()
        at = {id: row for row, id in enumerate(found["id"].to_pylist())}
        vectors = found["vector"].combine_chunks().flatten().to_numpy().reshape(-1, self.dim)
        return vectors[np.fromiter((at[id] for id in ids), np.int64, len(ids))]

    def search(self, query, k):
        return self.table.search(query).distance_type("cosine").limit(k).select(["id"]).to_arrow()["id"].to_pylist()

    def delete(self, ids):
        for at in range(0, len(ids), 10_000):
            listed = ", ".join(f"'{id}'" for id in ids[at : at + 10_000])
            self.table.delete(f"id IN ({listed})")

    def compact(self):
        self.table.optimize(cleanup_older_than=timedelta(0))
