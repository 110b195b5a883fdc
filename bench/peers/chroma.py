"""Chroma: a persistent client and one collection, with its default HNSW index (search is approximate)."""

import chromadb
import numpy as np

from . import Peer as Base
from . import batches


class Peer(Base):
    package = "chromadb"
    durability = "fsync of SQLite in each add; the index follows from its log"
    durable = True
    exact = False

    def __init__(self, path, dim):
        self.client = chromadb.PersistentClient(str(path), chromadb.Settings(anonymized_telemetry=False))
        self.rows = self.client.get_or_create_collection(
            "rows", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        self.most = self.client.get_max_batch_size()

    def put_many(self, ids, vectors):
        for some, rows in batches(ids, vectors, self.most):
            self.rows.upsert(ids=list(some), embeddings=rows)

    def get(self, id):
        return np.asarray(self.rows.get(ids=[id], include=["embeddings"])["embeddings"][0], np.float32)

    def get_many(self, ids):
        found = self.rows.get(ids=list(ids), include=["embeddings"])
        at = {id: row for row, id in enumerate(found["ids"])}
        return np.asarray(found["embeddings"], np.float32)[[at[id] for id in ids]]

    def search(self, query, k):
        return self.rows.query(query_embeddings=[query], n_results=k, include=[])["ids"][0]

    def delete(self, ids):
        for at in range(0, len(ids), self.most):
            self.rows.delete(ids=list(ids[at : at + self.most]))

    def close(self):
        self.client.close()
