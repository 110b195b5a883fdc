"""LMDB: id to the bytes of the vector; no search."""

import lmdb
import numpy as np

from . import Peer as Base


class Peer(Base):
    package = "lmdb"
    durability = "fdatasync in each commit of a transaction"
    durable = True

    def __init__(self, path, dim):
        self.path = path
        self.env = lmdb.open(str(path), map_size=1 << 36)
        self.writing = None
        self.reading = self.env.begin(buffers=True)

    def put_many(self, ids, vectors):
        self.writing = self.writing or self.env.begin(write=True)
        self.writing.cursor().putmulti((id.encode(), row) for id, row in zip(ids, vectors))

    def put(self, id, vector):
        self.writing = self.writing or self.env.begin(write=True)
        self.writing.put(id.encode(), vector)

    def commit(self):
        if self.writing:
            self.writing.commit()
            self.writing = None
        self.reading.abort()
        self.reading = self.env.begin(buffers=True)

    def get(self, id):
        return np.frombuffer(self.reading.get(id.encode()), np.float32).copy()

    def get_many(self, ids):
        return np.stack([np.frombuffer(self.reading.get(id.encode()), np.float32) for id in ids])

    def delete(self, ids):
        self.writing = self.writing or self.env.begin(write=True)
        for id in ids:
            self.writing.delete(id.encode())

    def compact(self):
        smaller = self.path.with_name(self.path.name + "-compact")
        smaller.mkdir()
        self.env.copy(str(smaller), compact=True)
        self.close()
        (smaller / "data.mdb").replace(self.path / "data.mdb")
        smaller.rmdir()
        self.__init__(self.path, 0)

    def close(self):
        self.commit()
        self.reading.abort()
        self.env.close()
