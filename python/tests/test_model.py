"""Any sequence of calls against a dict."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import vecstone

DIM = 3
IDS = st.sampled_from(["a", "b", "c", "d", "é"])
VECTORS = st.lists(st.floats(-10, 10, width=32), min_size=DIM, max_size=DIM)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


class Model(RuleBasedStateMachine):
    @initialize(dim=st.booleans())
    def start(self, dim: bool) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "store"
        self.store = vecstone.open(self.path, dim=DIM if dim else None)
        self.model: dict[str, tuple[list[float], Any]] = {}

    def note(self, id: str, vector: list[float], document: Any) -> None:
        self.model.pop(id, None)
        self.model[id] = (vector, document)

    @rule(id=IDS, vector=VECTORS, document=JSON, durable=st.booleans())
    def put(self, id: str, vector: list[float], document: Any, durable: bool) -> None:
        self.store.put(id, vector, document, durability="sync" if durable else None)
        self.note(id, vector, document)

    @rule(rows=st.lists(st.tuples(IDS, VECTORS, JSON), max_size=8))
    def put_many(self, rows: list[tuple[str, list[float], Any]]) -> None:
        ids, vectors, documents = zip(*rows) if rows else ((), (), ())
        self.store.put_many(ids, np.array(vectors, dtype="float32").reshape(-1, DIM), documents)
        for row in rows:
            self.note(*row)

    @rule(id=IDS)
    def delete(self, id: str) -> None:
        assert self.store.delete(id) == (self.model.pop(id, None) is not None)

    @rule(ids=st.lists(IDS))
    def delete_many(self, ids: list[str]) -> None:
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
        with vecstone.open(self.path, mode="r") as reader:
            assert set(reader) == set(self.model)

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = vecstone.open(self.path)

    @rule(query=VECTORS, k=st.integers(0, 6), only=st.none() | st.sets(IDS))
    def search(self, query: list[float], k: int, only: set[str] | None) -> None:
        hits = self.store.search(query, k=k, filter=only)
        wanted = [id for id in self.model if only is None or id in only]
        assert len(hits) == min(k, len(wanted)) and set(hits.ids) <= set(wanted)
        assert list(hits.distances) == sorted(hits.distances)
        if self.model:
            far = self.store.search(query, k=10, filter=only)
            assert far.ids[: len(hits)] == hits.ids and set(far.ids) == set(wanted)

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
                                   suppress_health_check=list(HealthCheck))
TestModel = Model.TestCase
