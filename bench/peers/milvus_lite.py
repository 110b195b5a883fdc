"""Milvus Lite through pymilvus: a local file, string primary keys, a FLAT index (so that search is exact)."""

import numpy as np
from milvus_lite.server_manager import server_manager_instance
from pymilvus import DataType, MilvusClient

from . import Peer as Base
from . import batches

ROWS = "rows"


class Peer(Base):
    package = "milvus-lite"
    durability = "flush(): fsync; a put that returned is not synced"
    durable = True

    def __init__(self, path, dim):
        path.mkdir(exist_ok=True)
        self.name = str(path / "milvus.db")
        self.client = MilvusClient(self.name)
        if not self.client.has_collection(ROWS):
            schema = self.client.create_schema(auto_id=False)
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
            index = self.client.prepare_index_params()
            index.add_index("vector", index_type="FLAT", metric_type="COSINE")
            self.client.create_collection(ROWS, schema=schema, index_params=index)
        self.client.load_collection(ROWS)

    def put_many(self, ids, vectors):
        for some, rows in batches(ids, vectors, 5_000):  # a call may carry 64 MB
            self.client.upsert(ROWS, [{"id": id, "vector": row} for id, row in zip(some, rows)])

    def commit(self):
        self.client.flush(ROWS)

    def get(self, id):
        return self.get_many([id])[0]

    def get_many(self, ids):
        found = self.client.get(ROWS, ids=list(ids), output_fields=["vector"])
        at = {row["id"]: row["vector"] for row in found}
        return np.asarray([at[id] for id in ids], np.float32)

    def search(self, query, k):
        return [hit["id"] for hit in self.client.search(ROWS, data=[query], limit=k)[0]]

    def delete(self, ids):
        for at in range(0, len(ids), 10_000):
            self.client.delete(ROWS, ids=list(ids[at : at + 10_000]))

    def compact(self):
        self.client.compact(ROWS)

    def close(self):
        self.client.close()
        server_manager_instance.release_server(self.name)  # or it keeps the file from other processes
