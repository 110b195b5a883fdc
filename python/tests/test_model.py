"""Any sequence of calls against a dict."""

from __future__ import annotations

import itertools
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import vecstone

DIM = 3
KINDS: dict[str, list[Any]] = {
    "string": ["a", "b", "c", "d", "é"],
    "u64": [0, 1, 255, 2**63, 2**64 - 2],
    "uuid": [uuid.UUID(int=n) for n in (0, 1, 255, 2**64, 2**128 - 1)],
}
IDS = st.integers(0, 4)
"""Which of the five ids of a kind."""
VECTORS = st.lists(st.floats(-10, 10, width=32), min_size=DIM, max_size=DIM)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
DOCUMENT = JSON | st.just(vecstone.NO_DOCUMENT)


def left(before: Any, document: Any) -> Any:
    """The document after a put."""
    if document is None:
        return before
    return None if document is vecstone.NO_DOCUMENT else document


def distances(metric: str, rows: np.ndarray, query: list[float]) -> Any:
    """In float64, as a page of mathematics has it; of a vector of zeros the cosine is 0."""
    x, q = rows.astype("float64"), np.array(query, dtype="float32").astype("float64")
    if metric == "l2":
        return ((x - q) ** 2).sum(axis=1)
    dots = x @ q
    if metric == "ip":
        return 1 - dots
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(q)
    return 1 - np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)


class Model(RuleBasedStateMachine):
    @initialize(dim=st.booleans(), kind=st.sampled_from(list(KINDS)), metric=st.sampled_from(["cosine", "l2", "ip"]))
    def start(self, dim: bool, kind: str, metric: Any) -> None:
        self.ids, self.metric = KINDS[kind], metric
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "store"
        self.store = vecstone.open(self.path, dim=DIM if dim else None, metric=metric)
        self.model: dict[Any, tuple[list[float], Any]] = {}

    def note(self, id: Any, vector: list[float], document: Any) -> None:
        before = self.model.pop(id, (None, None))[1]
        self.model[id] = (vector, left(before, document))

    @rule(at=IDS, document=DOCUMENT)
    def put_documents(self, at: int, document: Any) -> None:
        id = self.ids[at]
        if id not in self.model:
            with pytest.raises(KeyError):
                self.store.put_documents([id], [document])
            return
        self.store.put_documents([id], [document])
        vector, before = self.model[id]
        if document is not None:
            del self.model[id]  # its row is written again
        self.model[id] = (vector, left(before, document))

    @rule(at=IDS, vector=VECTORS, document=DOCUMENT, durable=st.booleans())
    def put(self, at: int, vector: list[float], document: Any, durable: bool) -> None:
        id = self.ids[at]
        self.store.put(id, vector, document, durability="sync" if durable else None)
        self.note(id, vector, document)

    @rule(rows=st.lists(st.tuples(IDS, VECTORS, DOCUMENT), max_size=8))
    def put_many(self, rows: list[tuple[int, list[float], Any]]) -> None:
        rows = [(self.ids[at], vector, document) for at, vector, document in rows]
        ids, vectors, documents = zip(*rows) if rows else ((), (), ())
        self.store.put_many(ids, np.array(vectors, dtype="float32").reshape(-1, DIM), documents)
        for row in rows:
            self.note(*row)

    @rule(at=IDS)
    def delete(self, at: int) -> None:
        id = self.ids[at]
        assert self.store.delete(id) == (self.model.pop(id, None) is not None)

    @rule(places=st.lists(IDS))
    def delete_many(self, places: list[int]) -> None:
        ids = [self.ids[at] for at in places]
        assert self.store.delete_many(ids) == len({id for id in ids if self.model.pop(id, None)})

    @rule(value=st.integers(-5, 5))
    def delete_where(self, value: int) -> None:
        gone = [id for id, (_, doc) in self.model.items() if isinstance(doc, dict) and type(doc.get("")) is int
                and doc[""] >= value]
        assert self.store.delete_where({"": {"$gte": value}}) == len(gone)
        for id in gone:
            del self.model[id]

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model.clear()

    @rule()
    def flush(self) -> None:
        self.store.flush()
        if self.store.dim is None:
            assert not self.path.exists()
            return
        with vecstone.open(self.path, mode="r") as reader:
            assert set(reader) == set(self.model)

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        # Where nothing was written yet, nothing knows the metric.
        self.store = vecstone.open(self.path, metric=self.metric)

    @rule(query=VECTORS, k=st.integers(0, 6), only=st.none() | st.sets(IDS))
    def search(self, query: list[float], k: int, only: set[int] | None) -> None:
        filter = None if only is None else [self.ids[at] for at in only]
        hits = self.store.search(query, k=k, filter=filter)
        wanted = [id for id in self.model if filter is None or id in filter]
        assert len(hits) == min(k, len(wanted)) and set(hits.ids) <= set(wanted)
        self.check_ranking(query, hits.ids, hits.distances, wanted)
        if self.model:
            many = self.store.search_many([query, query], k=k, filter=filter)
            for ids, distances in zip(many.ids, many.distances):
                assert ids[: len(hits)].tolist() == hits.ids and np.array_equal(distances[: len(hits)], hits.distances)

    def check_ranking(self, query: list[float], ids: list[Any], found: np.ndarray, among: list[Any]) -> None:
        """Nearest first, of two at the same distance the older first, and as far as brute force says."""
        rows = np.array([self.model[id][0] for id in among], dtype="float32").reshape(-1, DIM)
        exact = dict(zip(among, distances(self.metric, rows, query)))
        assert np.allclose(found, [exact[id] for id in ids], rtol=1e-5, atol=1e-4)
        assert found.tolist() == sorted(found.tolist())
        # Two distances that are one in float32 may differ in float64; those of equal vectors do not.
        order = [(rows[at].tobytes(), at) for at in map(among.index, ids)]
        assert all(a[0] != b[0] or a[1] < b[1] for a, b in itertools.combinations(order, 2))
        rest = [exact[id] for id in among if id not in ids]
        assert not ids or not rest or found[-1] <= min(rest) + 1e-4 + 1e-5 * abs(min(rest))

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "store"):
            return
        assert len(self.store) == len(self.model) and set(self.store) == set(self.model)
        ids = list(self.model)
        for id, (vector, document) in self.model.items():
            assert self.store[id].tolist() == vector and self.store.get_document(id) == document and id in self.store
        assert self.store.get_documents(ids) == [document for _, document in self.model.values()]
        if ids:
            assert self.store.get_many(ids).tolist() == [vector for vector, _ in self.model.values()]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.directory.cleanup()


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None,
                                   suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
TestModel = Model.TestCase
