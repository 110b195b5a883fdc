"""turbovec: 4-bit codes of the vectors, which are not kept (no get: opening is to the first search); pickled ids."""

from turbovec import IdMapIndex

from . import Names
from . import Peer as Base


class Peer(Base):
    package = "turbovec"
    durability = "one fsync in sync()"
    durable = True
    exact = False

    def __init__(self, path, dim):
        path.mkdir(exist_ok=True)
        self.path = path / "index.tv"
        self.names = Names(path / "ids.pickle", sync=True)
        self.index = IdMapIndex.load(str(self.path)) if self.path.exists() else IdMapIndex(dim=dim, bit_width=4)

    def put_many(self, ids, vectors):
        self.index.add_with_ids(vectors, self.names.add(ids))

    def commit(self):
        self.index.sync(str(self.path))
        self.names.save()

    def put_durable(self, id, vector):
        self.put(id, vector)
        self.index.sync(str(self.path))  # in its favour: without the list of names

    def search(self, query, k):
        return [self.names.ids[number] for number in self.index.search(query[None], k)[1][0]]

    def delete(self, ids):
        for number in self.names.of(ids).tolist():
            self.index.remove(number)
