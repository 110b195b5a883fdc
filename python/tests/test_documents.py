"""Documents that stay, change and go."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vecstone
from vecstone import NO_DOCUMENT

X = np.eye(4, dtype="float32")


@pytest.fixture(params=["buffered", "flushed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[vecstone.Store]:
    with vecstone.open(tmp_path / "s", dim=4, flush_interval=3600) as store:
        store.put_many(["a", "b", "c"], X[:3], [{"n": 1}, {"n": 2}, None])
        if request.param == "flushed":
            store.flush()
        yield store


def test_a_vector_does_not_delete_a_document(store: vecstone.Store) -> None:
    store["a"] = X[1]
    store.put("b", X[2])
    store.put("b", X[3], None)
    store.put_many(["a", "b", "c"], X[:3])
    store.put_many(["a", "b", "c"], X[:3], [None, {"n": 3}, None])
    for _ in range(2):
        assert store.get_documents(["a", "b", "c"]) == [{"n": 1}, {"n": 3}, None]
        assert store.ids_where({"n": {"$gte": 1}}) == ["a", "b"]
        hits = store.search(X[0], 3, with_documents=True)
        assert {hit.id: hit.document for hit in hits} == {"a": {"n": 1}, "b": {"n": 3}, "c": None}
        store.flush()


def test_removal_is_said(store: vecstone.Store) -> None:
    store.put("a", X[0], NO_DOCUMENT)
    store.put_many(["b", "c"], X[:2], [NO_DOCUMENT, {"n": 9}])
    assert store.get_documents(["a", "b", "c"]) == [None, None, {"n": 9}]
    del store["c"]
    store["c"] = X[2]
    assert store.get_document("c") is None


def test_no_document_is_one_constant() -> None:
    assert repr(NO_DOCUMENT) == "vecstone.NO_DOCUMENT"
    assert pickle.loads(pickle.dumps(NO_DOCUMENT)) is NO_DOCUMENT
    assert copy.deepcopy(NO_DOCUMENT) is NO_DOCUMENT
    assert isinstance(NO_DOCUMENT, vecstone.NoDocument)
    with pytest.raises(TypeError):
        vecstone.NoDocument()


def test_documents_change_without_vectors(store: vecstone.Store) -> None:
    store.put_document("a", {"m": 1})
    store.put_documents(["b", "c"], [None, [1, 2]])
    store.update_documents(["a", "b", "a"], [{"x": {"y": 1}}, {"n": None, "k": "v"}, {"x": {"z": 2}, "m": None}])
    assert store.get_documents(["a", "b", "c"]) == [{"x": {"y": 1, "z": 2}}, {"k": "v"}, [1, 2]]
    np.testing.assert_array_equal(store.get_many(["a", "b", "c"]), X[:3])
    store.put_document("a", None)
    store.put_documents(["c"], [NO_DOCUMENT])
    assert store.get_documents(["a", "b", "c"]) == [None, {"k": "v"}, None]
    store.update_documents(["a"], [{"n": 1, "gone": None}])
    assert store.get_document("a") == {"n": 1}


def test_what_cannot_change_is_named_and_nothing_is_written(store: vecstone.Store) -> None:
    for call in (store.put_documents, store.update_documents):
        with pytest.raises(KeyError) as error:
            call(["a", "x", "y", "x"], [{"n": 7}] * 4)
        assert error.value.args == ("x", "y")
        with pytest.raises(ValueError, match="2 ids, but 1 document;"):
            call(["a", "b"], [{}])
        with pytest.raises(TypeError, match="u64"):
            call([7], [{}])
        with pytest.raises(TypeError):
            call(["a"], [object()])
    with pytest.raises(KeyError) as error:
        store.put_document("x", None)
    assert error.value.args == ("x",)
    store.put_document("c", [1])
    with pytest.raises(ValueError, match="c is no JSON object"):
        store.update_documents(["a", "c"], [{"n": 8}, {"n": 8}])
    assert store.get_documents(["a", "b", "c"]) == [{"n": 1}, {"n": 2}, [1]]


def test_for_asyncio(store: vecstone.Store) -> None:
    async def change() -> None:
        await store.aput_document("a", {"n": 5})
        await store.aput_documents(["b"], [NO_DOCUMENT], durability="sync")
        await store.aupdate_documents(["c"], [{"n": 6}])

    asyncio.run(change())
    assert store.get_documents(["a", "b", "c"]) == [{"n": 5}, None, {"n": 6}]


def test_ingest_keeps_what_is_not_given(store: vecstone.Store, tmp_path: Path) -> None:
    keep = [{"n": 1}, {"n": 2}, None]
    vecstone.ingest(store, {"id": ["a", "b", "c"], "vector": X[1:]})
    vecstone.ingest(store, {"id": ["a", "b", "c"], "vector": X[:3], "document": [None, None, None]})
    vecstone.ingest(store, [(["a", "b", "c"], X[1:], [None, None, None])])
    lines = [{"id": "a", "vector": [1, 2, 3, 4]}, {"id": "b", "vector": [4, 3, 2, 1], "document": None}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert vecstone.ingest(store, tmp_path / "rows.jsonl").written == 2
    assert store.get_documents(["a", "b", "c"]) == keep
    # The last row counts, and the document that it does not give is that of the one before.
    vecstone.ingest(store, [(["a", "a"], X[:2], [{"n": 4}, None])])
    assert store.get_document("a") == {"n": 4}
    vecstone.ingest(store, [(["a", "b"], X[:2], [NO_DOCUMENT, None])])
    assert store.get_documents(["a", "b"]) == [None, {"n": 2}]


def test_ingest_from_a_table_of_pandas_or_arrow(store: vecstone.Store) -> None:
    pa = pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    table = pa.table({"id": ["a", "b"], "vector": X[2:].tolist(), "document": [None, '{"n": 8}']})
    vecstone.ingest(store, table)
    vecstone.ingest(store, pd.DataFrame({"id": ["a", "b"], "vector": X[:2].tolist(), "document": [float("nan"), None]}))
    assert store.get_documents(["a", "b"]) == [{"n": 1}, {"n": 8}]


def test_a_copy_of_a_store_is_equal(store: vecstone.Store, tmp_path: Path) -> None:
    with vecstone.open(tmp_path / "b", dim=4) as b:
        b.put_many(["a", "c", "d"], X[:3], [{"old": 1}, {"old": 2}, {"old": 3}])
        for source in (store, store.snapshot()):
            vecstone.ingest(b, source)
            assert b.get_documents(["a", "b", "c", "d"]) == [{"n": 1}, {"n": 2}, None, {"old": 3}]
            np.testing.assert_array_equal(b.get_many(["a", "b", "c"]), store.get_many(["a", "b", "c"]))
        assert vecstone.ingest(b, store).written == 0, "nothing is written again"


def test_stats_count_lost_documents(store: vecstone.Store) -> None:
    assert (store.stats()["lost_documents"], store.stats()["document_error"]) == (0, None)
