"""DuckDB: a table with a primary key and a fixed-size array column; rows go in as Arrow."""

import duckdb
import numpy as np
import pyarrow as pa

from . import Peer as Base


class Peer(Base):
    package = "duckdb"
    durability = "fdatasync of its log in each commit"
    durable = True

    def __init__(self, path, dim):
        path.mkdir(exist_ok=True)
        self.dim = dim
        self.db = duckdb.connect(path / "rows.duckdb")
        self.db.execute(f"CREATE TABLE IF NOT EXISTS rows (id VARCHAR PRIMARY KEY, vector FLOAT[{dim}])")
        self.open = False

    def begin(self):
        if not self.open:
            self.db.begin()
            self.open = True

    def put_many(self, ids, vectors):
        self.begin()
        batch = pa.table({"id": ids, "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.dim)})
        self.db.register("batch", batch)
        self.db.execute("INSERT INTO rows SELECT id, vector FROM batch")
        self.db.unregister("batch")

    def commit(self):
        if self.open:
            self.db.commit()
            self.open = False

    def get(self, id):
        return self.vectors(self.db.execute("SELECT vector FROM rows WHERE id = ?", [id]))[0]

    def get_many(self, ids):
        self.db.register("wanted", pa.table({"id": ids, "place": np.arange(len(ids))}))
        join = "SELECT vector FROM rows JOIN wanted USING (id) ORDER BY place"
        return self.vectors(self.db.execute(join))

    def vectors(self, result):
        column = result.to_arrow_table().column(0).combine_chunks()
        return column.flatten().to_numpy().reshape(-1, self.dim)

    def search(self, query, k):
        select = f"SELECT id FROM rows ORDER BY array_cosine_distance(vector, ?::FLOAT[{self.dim}]) LIMIT ?"
        return [id for (id,) in self.db.execute(select, [query, k]).fetchall()]

    def delete(self, ids):
        self.db.register("gone", pa.table({"id": ids}))
        self.db.execute("DELETE FROM rows WHERE id IN (SELECT id FROM gone)")

    def compact(self):
        self.db.execute("CHECKPOINT")

    def close(self):
        self.commit()
        self.db.close()
