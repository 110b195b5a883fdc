"""vecstone: a store with the defaults of open(); search is exact."""

import vecstone

from . import Peer as Base


class Peer(Base):
    package = "vecstone"
    durability = "fdatasync of rows and log before flush() returns"
    durable = True

    def __init__(self, path, dim):
        self.store = vecstone.open(path, dim=dim, metric="cosine")
        self.put_many, self.put, self.commit = self.store.put_many, self.store.put, self.store.flush
        self.get, self.get_many, self.close = self.store.get, self.store.get_many, self.store.close
        self.delete, self.compact = self.store.delete_many, self.store.compact

    def put_durable(self, id, vector):
        self.store.put(id, vector, durability="sync")

    def search(self, query, k):
        return self.store.search(query, k).ids
