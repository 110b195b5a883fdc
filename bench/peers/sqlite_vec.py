"""SQLite with the sqlite-vec extension, in WAL mode."""

import json

import numpy as np
import pysqlite3 as sqlite3  # Python's own is often built without extensions
import sqlite_vec

from . import Peer as Base


class Peer(Base):
    package = "sqlite-vec"
    durability = "fdatasync of the WAL in each commit (synchronous=FULL)"
    durable = True

    def __init__(self, path, dim):
        path.mkdir(exist_ok=True)
        self.db = sqlite3.connect(path / "vectors.db", isolation_level="IMMEDIATE")
        self.db.enable_load_extension(True)
        sqlite_vec.load(self.db)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("PRAGMA cache_size = -262144")  # vectors lie in blobs of 3 MB: the default holds less than one
        self.db.execute(
            "CREATE VIRTUAL TABLE IF NOT EXISTS rows USING vec0"
            f"(id TEXT PRIMARY KEY, vector float[{dim}] distance_metric=cosine)"
        )

    def put_many(self, ids, vectors):
        self.db.executemany("INSERT INTO rows VALUES (?, ?)", zip(ids, vectors))

    def put(self, id, vector):
        self.db.execute("INSERT INTO rows VALUES (?, ?)", (id, vector))

    def commit(self):
        self.db.commit()

    def get(self, id):
        (row,) = self.db.execute("SELECT vector FROM rows WHERE id = ?", (id,)).fetchone()
        return np.frombuffer(row, np.float32)

    def get_many(self, ids):
        select = "SELECT id, vector FROM rows WHERE id IN (SELECT value FROM json_each(?))"
        found = dict(self.db.execute(select, (json.dumps(list(ids)),)))
        return np.stack([np.frombuffer(found[id], np.float32) for id in ids])

    def search(self, query, k):
        select = "SELECT id FROM rows WHERE vector MATCH ? AND k = ? ORDER BY distance"
        return [id for (id,) in self.db.execute(select, (query, k))]

    def delete(self, ids):
        self.db.executemany("DELETE FROM rows WHERE id = ?", ((id,) for id in ids))

    def compact(self):
        self.db.commit()
        self.db.execute("VACUUM")
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self):
        self.db.commit()
        self.db.close()
