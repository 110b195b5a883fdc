"""What people hand in first: it is taken as meant, or refused by its name. Nothing is changed without a word."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names

Put = Callable[[vecstone.Store, Any], object]


# ---- documents ----


@pytest.mark.parametrize("documents", [{"id-0": {}, "id-1": {}}, "ab", b"ab", bytearray(b"ab"), {"a", "b"}, frozenset("ab")],
                         ids=["dict", "str", "bytes", "bytearray", "set", "frozenset"])
def test_what_is_no_list_of_documents(store: vecstone.Store, rows: np.ndarray, documents: Any) -> None:
    kind = type(documents).__name__
    calls: list[Callable[[], object]] = [
        lambda: store.put_many(names(2), rows[:2], documents),
        lambda: store.put_documents(names(2), documents),
        lambda: store.update_documents(names(2), documents),
        lambda: vecstone.ingest(store, iter([(names(2), rows[:2], documents)])),
        lambda: vecstone.ingest(store, {"id": names(2), "vector": rows[:2], "document": documents}),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=f"document.* is a {kind}, which .*give a list"):
            call()
    assert len(store) == 0


def test_tables_are_no_column(store: vecstone.Store, rows: np.ndarray) -> None:
    pa, pd, pl = pytest.importorskip("pyarrow"), pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"year": [1, 2]}
    tables = [pa.table(columns), pa.record_batch(columns), pd.DataFrame(columns), pl.DataFrame(columns)]
    for table in tables:
        calls: list[Callable[[], object]] = [
            lambda: store.put_many(names(2), rows[:2], table), lambda: store.put_many(table, rows[:2]),
            lambda: store.get_many(table), lambda: store.delete_many(table),
        ]
        for call in calls:
            with pytest.raises(TypeError, match=f"(ids|documents) is a {type(table).__name__}, which has columns"):
                call()


def test_columns_of_documents(tmp_path: Path, rows: np.ndarray) -> None:
    pa, pd, pl = pytest.importorskip("pyarrow"), pytest.importorskip("pandas"), pytest.importorskip("polars")
    documents = [{"year": 1}, {"year": 2}]
    given = [tuple(documents), iter(documents), {"a": documents[0], "b": documents[1]}.values(), np.array(documents),
             pd.Series(documents), pl.Series(documents), pa.array(documents), pa.chunked_array([documents])]
    for n, column in enumerate(given):
        with vecstone.open(tmp_path / f"{n}") as store:
            store.put_many(names(2), rows[:2], column)
            assert store.get_documents(names(2)) == documents


def test_values_of_numpy_in_documents_and_filters(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put("a", rows[0], {"year": np.int64(7), "ok": np.bool_(True), "x": np.float32(0.5), "many": np.arange(3)})
    assert store.get_document("a") == {"year": 7, "ok": True, "x": 0.5, "many": [0, 1, 2]}
    filters: list[Any] = [{"year": np.int64(7)}, {"ok": np.bool_(True)}, {"x": {"$gt": np.float16(0.25)}},
                          {"year": {"$in": {7, 8}}}, {"year": {"$in": frozenset([7])}}, {"year": {"$in": np.array([7])}},
                          {"year": {"$nin": {8}}}, {"$and": [{"year": np.uint8(7)}]}]
    for filter in filters:
        assert store.ids_where(filter) == store.search(rows[0], filter=filter).ids == ["a"]
    for wrong, error, text in [({1}, TypeError, "a set has no order"), (Decimal(1), TypeError, "Decimal"),
                               (np.float64("nan"), ValueError, "NaN"), (np.array([1, np.inf]), ValueError, "infinity"),
                               (np.ma.masked_array([1, 2], [True, False]), ValueError, "masked")]:
        with pytest.raises(error, match=f"^document: .*{text}"):
            store.put("a", rows[0], {"x": [wrong]})
        with pytest.raises(error, match=f"^document of row 1: .*{text}"):
            store.put_documents(["a", "a"], [None, {"x": wrong}])
    with pytest.raises(TypeError, match="^filter: .*JSON"):
        store.ids_where({"x": object()})


# ---- ids ----


def test_a_set_has_no_order(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put_many(names(3), rows[:3])
    for ids in (set(names(3)), frozenset(names(3))):
        calls: list[Callable[[], object]] = [
            lambda: store.put_many(ids, rows[3:6]), lambda: store.get_many(ids), lambda: store.get_documents(ids),
            lambda: store.put_documents(ids, [{}] * 3), lambda: store.snapshot().get_many(ids),
            lambda: store.snapshot().get_documents(ids), lambda: vecstone.ingest(store, iter([(ids, rows[:3])])),
            lambda: vecstone.ingest(store, {"id": ids, "vector": rows[:3]}),
        ]
        for call in calls:
            with pytest.raises(TypeError, match=f"is a {type(ids).__name__}, which has no order"):
                call()
        # Where rows are only named, there is no order to lose.
        assert len(store.search(rows[0], filter=ids)) == 3 and store.ids_where(ids) == names(3)
    assert all(np.array_equal(store[id], rows[n]) for n, id in enumerate(names(3)))
    assert store.delete_many({"id-0", "id-1"}) == 2
    store.put_many({"id-7": 1, "id-8": 2}.keys(), rows[:2])
    assert list(store) == ["id-2", "id-7", "id-8"]


def test_columns_of_ids(tmp_path: Path, rows: np.ndarray) -> None:
    pa, pd, pl = pytest.importorskip("pyarrow"), pytest.importorskip("pandas"), pytest.importorskip("polars")
    kinds: list[list[Any]] = [["a", "b"], [5, 2**62], [uuid.uuid4(), uuid.uuid4()]]
    for n, ids in enumerate(kinds):
        given: list[Any] = [pd.Series(ids), pd.Index(ids), np.array(ids, object)]
        if not isinstance(ids[0], uuid.UUID):
            given += [pa.array(ids), pa.chunked_array([ids]), pl.Series(ids), np.array(ids), np.ma.masked_array(ids)]
        for at, column in enumerate(given):
            with vecstone.open(tmp_path / f"{n}-{at}") as store:
                store.put_many(column, rows[:2])
                assert list(store) == ids and np.array_equal(store.get_many(column), rows[:2])
                assert store.search(rows[0], filter=column).ids == ids and store.delete_many(column) == 2


def test_the_row_of_a_wrong_id(store: vecstone.Store, rows: np.ndarray) -> None:
    wrong: list[tuple[Any, type[Exception], str]] = [
        (["a", None], TypeError, "^ids: row 1: .*not NoneType"), (["a", 1.5], TypeError, "^ids: row 1: .*not float"),
        ([1, -1], ValueError, "^ids: row 1: id -1"), ([1, True], TypeError, "^ids: row 1: .*not bool"),
        (np.ma.masked_array([1, 2], [False, True]), ValueError, "^ids: row 1 is masked"),
    ]
    for ids, error, text in wrong:
        with pytest.raises(error, match=text):
            store.put_many(ids, rows[:2])
    assert len(store) == 0


# ---- vectors ----


def of_vectors(store: vecstone.Store) -> list[Put]:
    return [
        lambda store, vectors: store.put_many(names(2), vectors),
        lambda store, vectors: vecstone.ingest(store, iter([(names(2), vectors)])),
        lambda store, vectors: vecstone.ingest(store, {"id": names(2), "vector": vectors}),
    ]


def test_columns_of_vectors(store: vecstone.Store, rows: np.ndarray) -> None:
    pa, pd, pl = pytest.importorskip("pyarrow"), pytest.importorskip("pandas"), pytest.importorskip("polars")
    two = rows[:2].tolist()
    given: list[Any] = [
        pd.Series(two), pd.Series([*rows[:2]]), pd.DataFrame(rows[:2]), pl.Series(two), pl.Series(two, dtype=pl.Array(pl.Float32, DIM)),
        pa.array(two), pa.array(two, pa.list_(pa.float32(), DIM)), pa.chunked_array([two]), np.array([*rows[:2], None], object)[:2],
        [*rows[:2]], [pa.array(row) for row in two], np.ma.masked_array(rows[:2]),
        [[Decimal(repr(x)) for x in row] for row in two], tuple(map(tuple, two)),
    ]
    for vectors in given:
        for put in of_vectors(store):
            store.clear()
            put(store, vectors)
            assert np.array_equal(store.get_many(names(2)), rows[:2])
        assert [hits[0] for hits in store.search_many(vectors, 1).ids] == names(2)


def test_numbers_that_numpy_has_no_kind_for(store: vecstone.Store, rows: np.ndarray) -> None:
    types = pytest.importorskip("ml_dtypes")
    given = rows[:2].astype(types.bfloat16)
    for put in of_vectors(store):
        store.clear()
        put(store, given)
        assert np.array_equal(store.get_many(names(2)), given.astype("float32"))
    assert store.search(given[1], 1).ids == ["id-1"]


def test_what_is_masked_is_not_stored(store: vecstone.Store, rows: np.ndarray) -> None:
    masked = np.ma.masked_array(rows[:2], np.zeros((2, DIM), bool))
    masked[1, 3] = np.ma.masked
    for vectors in (masked, [*masked], [rows[0], masked[1]]):
        for put in of_vectors(store):
            with pytest.raises(ValueError, match="row 1.* 3 is masked"):
                put(store, vectors)
    for call in (lambda: store.put("a", masked[1]), lambda: store.search(masked[1]), lambda: store.search_many(masked)):
        with pytest.raises(ValueError, match="masked"):
            call()
    with pytest.raises(ValueError, match="masked"):
        store["a"] = np.ma.masked
    assert len(store) == 0


def test_the_row_of_a_wrong_vector(store: vecstone.Store, rows: np.ndarray) -> None:
    two = rows[:2].tolist()
    holes: list[Any] = [two[0], [*two[1][:-1], None]]
    wrong: list[tuple[Any, type[Exception], str]] = [
        ([two[0], two[1][:-1]], ValueError, "row 1 has 15 components, row 0 has 16"), (holes, TypeError, "row 1, component 15 is None"),
        (np.array([*rows[:1], None], object), TypeError, "row 1 is None"), ({1.0, 2.0}, TypeError, "is a set"),
        ({"a": two[0]}.values(), TypeError, "dict_values|no array|not numbers"), ("ab", TypeError, "is a str"),
    ]
    for vectors, error, text in wrong:
        for put in of_vectors(store):
            with pytest.raises(error, match=text):
                put(store, vectors)
    assert len(store) == 0
