"""Qdrant Edge: a shard in the process; its ids are integers or UUIDs, so a pickled list of strings is beside it."""

import numpy as np
import qdrant_edge as q

from . import Names, batches
from . import Peer as Base


class Peer(Base):
    package = "qdrant-edge-py"
    durability = "fsync and msync in flush(); a put that returned is only in its log, not synced"
    durable = True

    def __init__(self, path, dim):
        fresh = not path.exists()
        path.mkdir(exist_ok=True)
        self.names = Names(path / "ids.pickle", sync=True)
        config = q.EdgeConfig(vectors=q.EdgeVectorParams(size=dim, distance=q.Distance.Cosine))
        shard = str(path / "shard")
        self.shard = q.EdgeShard.create(shard, config) if fresh else q.EdgeShard.load(shard)

    def put_many(self, ids, vectors):
        for some, rows in batches(ids, vectors, 1000):
            numbers = self.names.add(some).tolist()
            points = [q.Point(number, row, {}) for number, row in zip(numbers, rows.tolist())]
            self.shard.update(q.UpdateOperation.upsert_points(points))

    def commit(self):
        self.shard.flush()
        self.names.save()

    def put_durable(self, id, vector):
        self.put(id, vector)
        self.shard.flush()  # in its favour: without the list of names

    def get(self, id):
        return self.get_many([id])[0]

    def get_many(self, ids):
        numbers = self.names.of(ids).tolist()
        found = {point.id: point.vector for point in self.shard.retrieve(numbers, False, True)}
        return np.array([found[number] for number in numbers], np.float32)

    def search(self, query, k):
        params = q.SearchParams(exact=True)
        request = q.SearchRequest(query=q.Query.Nearest(query.tolist()), limit=k, params=params)
        return [self.names.ids[point.id] for point in self.shard.search(request)]

    def delete(self, ids):
        self.shard.update(q.UpdateOperation.delete_points(self.names.of(ids).tolist()))

    def compact(self):
        self.shard.optimize()

    def close(self):
        self.shard.close()
