"""Rows as dicts, texts alone, and columns that are not asked for."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, jsonl, names


def as_dicts(rows: np.ndarray, **more: Any) -> list[dict[str, Any]]:
    return [{"id": id, "vector": row, **{key: value(n) for key, value in more.items()}}
            for n, (id, row) in enumerate(zip(names(len(rows)), rows))]


def test_rows_as_dicts(tmp_path: Path, rows: np.ndarray) -> None:
    many = as_dicts(rows)
    sources: list[Any] = [many, tuple(many), iter(many), ({**row, "vector": row["vector"].tolist()} for row in many)]
    for n, source in enumerate(sources):
        with vecstone.open(tmp_path / f"{n}") as store:
            assert vecstone.ingest(store, source) == (100, 100, 0, 0)
            assert list(store) == names(100) and np.array_equal(store.get_many(names(100)), rows)
            assert vecstone.ingest(store, many) == (100, 0, 100, 0)
    with vecstone.open(tmp_path / "numbers") as store:
        vecstone.ingest(store, [{"id": np.int64(7), "vector": rows[0]}, {"id": 8, "vector": rows[1]}])
        vecstone.ingest(store, {"id": 9, "vector": rows[2]})
        assert list(store) == [7, 8, 9]
    with vecstone.open(tmp_path / "uuids") as store:
        ids = [uuid.uuid4(), uuid.uuid4()]
        vecstone.ingest(store, [{"key": id, "v": row} for id, row in zip(ids, rows)], id_column="key", vector_column="v")
        assert list(store) == ids


def test_more_rows_as_dicts_than_one_batch(store: vecstone.Store) -> None:
    rows = [{"id": n, "vector": np.full(DIM, n, "float32"), "document": {"n": n}} for n in range(3000)]
    assert vecstone.ingest(store, rows) == (3000, 3000, 0, 0)
    assert store[2999][0] == 2999 and store.get_document(2999) == {"n": 2999}
    with pytest.raises(ValueError, match="^row 2500: there is no 'vector'; its keys are 'id'"):
        vecstone.ingest(store, [*rows[:2500], {"id": 1}])
    with pytest.raises(ValueError, match="row 1700 has 15 components"):
        vecstone.ingest(store, [*rows[:1700], {"id": 1, "vector": [1.0] * 15}])


def test_documents_of_rows_as_dicts(store: vecstone.Store, rows: np.ndarray) -> None:
    many: list[Any] = as_dicts(rows[:2], document=lambda n: {"n": n}, year=lambda n: 2000 + n)
    vecstone.ingest(store, many)
    assert store.get_documents(names(2)) == [{"n": 0}, {"n": 1}]
    vecstone.ingest(store, many, document_columns=["year"])
    assert store.get_documents(names(2)) == [{"year": 2000}, {"year": 2001}]
    del many[1]["year"]
    vecstone.ingest(store, many, document_columns="*")
    assert store.get_documents(names(2)) == [{"document": {"n": 0}, "year": 2000}, {"n": 1}]
    vecstone.ingest(store, [{**many[0], "document": vecstone.NO_DOCUMENT}, {**many[1], "document": None}])
    assert store.get_documents(names(2)) == [None, {"n": 1}]
    with pytest.raises(ValueError, match="row 0: there is no 'author'"):
        vecstone.ingest(store, many, document_columns=["author"])
    with pytest.raises(TypeError, match="^row 1, column 'odd': .*JSON"):
        vecstone.ingest(store, as_dicts(rows[:2], odd=lambda n: [1, object()][n]), document_columns=["odd"])
    assert vecstone.ingest(store, store.to_arrow().to_pylist()) == (2, 0, 2, 0) if has_arrow() else True


def has_arrow() -> bool:
    import importlib.util

    return importlib.util.find_spec("pyarrow") is not None


def test_a_str_is_no_column(store: vecstone.Store, rows: np.ndarray) -> None:
    two = rows[:2]
    wrong: list[tuple[Any, str]] = [
        (iter([("ab", two)]), "batch 0, ids is a str"), ({"id": ["a", "b"], "vector": two, "document": "ab"}, "'document' is a str"),
        ([("ab", two, [None, None])], "batch 0, ids is a str"), (["ab", "cd"], "list of texts: give embed="),
        ([{"id": "a", "vector": rows[0]}, "b"], "row 1 is a str"),
        ([(["a", "b"], two), {"id": "c", "vector": rows[2]}], "batch 1 is a row"), ([1.5, 2.5], "batch 0 is a float"),
    ]
    for source, text in wrong:
        with pytest.raises(TypeError, match=text):
            vecstone.ingest(store, source)
    with pytest.raises(ValueError, match="there is no 'id'|no column 'id'"):
        vecstone.ingest(store, [{"key": "a", "vector": rows[0]}])


def test_one_batch_alone(tmp_path: Path, rows: np.ndarray) -> None:
    documents = [{"n": n} for n in range(100)]
    for n, ids in enumerate((names(100), np.array(names(100)), np.array(names(100), object))):
        with vecstone.open(tmp_path / f"{n}") as store:
            assert vecstone.ingest(store, (ids, rows, documents)).written == 100
            assert store.get_document("id-7") == {"n": 7} and np.array_equal(store["id-7"], rows[7])


def test_what_holds_no_rows(store: vecstone.Store, rows: np.ndarray) -> None:
    class DatasetDict(dict[str, Any]):
        pass

    wrong: list[tuple[Any, str]] = [
        (DatasetDict(train=[]), r"several data sets; give one of them, say source\['train'\]"), (rows, "ndarray"),
        ({"a"}, "set"), (7, "int"), (None, "NoneType"),
    ]
    for source, text in wrong:
        with pytest.raises(TypeError, match=text):
            vecstone.ingest(store, source)


def test_a_lazy_frame_holds_no_rows(store: vecstone.Store) -> None:
    pl = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"LazyFrame holds no rows yet; give frame.collect\(\)"):
        vecstone.ingest(store, pl.LazyFrame({"id": ["a"], "vector": [[1.0] * DIM]}))


# ---- texts ----


class Model:
    """Numbers texts as they come."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def embed(self, texts: list[str]) -> np.ndarray:
        self.calls.append(texts)
        return np.array([[len(text), *[1.0] * (DIM - 1)] for text in texts], "float32")


def test_texts_alone(tmp_path: Path) -> None:
    texts = ["stone", "paper", "stone", "wood"]
    sources: list[Callable[[], Any]] = [lambda: texts, lambda: tuple(texts), lambda: iter(texts), lambda: np.array(texts),
                                        lambda: np.array(texts, object)]
    for n, source in enumerate(sources):
        model = Model()
        with vecstone.open(tmp_path / f"{n}") as store:
            assert vecstone.ingest(store, source(), embed=model.embed) == (4, 3, 0, 3)
            assert store.get_documents(list(store)) == [{"text": "paper"}, {"text": "stone"}, {"text": "wood"}]
            assert [len(id) for id in store] == [36] * 3 and uuid.UUID(next(iter(store))).version == 5
            assert vecstone.ingest(store, source(), embed=model.embed) == (4, 0, 3, 0)
            assert model.calls == [["paper", "stone", "wood"]]


def test_the_id_of_a_text_stays(tmp_path: Path) -> None:
    ids: list[Any] = []
    for kind in ("strings", "uuids"):
        with vecstone.open(tmp_path / kind) as store:
            if kind == "uuids":
                store.put(uuid.UUID(int=1), [1.0] * DIM)
            vecstone.ingest(store, ["stone"], embed=Model().embed)
            ids.append(list(store)[-1])
    assert ids[0] == str(ids[1]) == STONE
    with vecstone.open(tmp_path / "numbers") as store:
        store.put(1, [1.0] * DIM)
        with pytest.raises(TypeError, match="kind u64; give id_column="):
            vecstone.ingest(store, ["stone"], embed=Model().embed)
        assert vecstone.ingest(store, ["stone", "wood"], id_column=[7, 8], embed=Model().embed).written == 2
        assert store.get_documents([7, 8]) == [{"text": "stone"}, {"text": "wood"}]
        for ids in ([7], [7, 8, 9]):
            with pytest.raises(ValueError, match="give one for each text"):
                vecstone.ingest(store, ["stone", "wood"], id_column=ids, embed=Model().embed)


STONE = str(uuid.uuid5(uuid.UUID("6d5f0e0c-6a38-5c2e-9c0e-1f0a5b7d4e21"), "stone"))


def test_columns_of_texts(tmp_path: Path) -> None:
    pa, pd, pl = pytest.importorskip("pyarrow"), pytest.importorskip("pandas"), pytest.importorskip("polars")
    texts = ["stone", "paper"]
    for n, column in enumerate((pd.Series(texts), pl.Series(texts), pa.array(texts), pa.chunked_array([texts]))):
        with vecstone.open(tmp_path / f"{n}") as store:
            assert vecstone.ingest(store, column, embed=Model().embed, text_column="words").written == 2
            assert store.get_documents(list(store)) == [{"words": "stone"}, {"words": "paper"}]
    with vecstone.open(tmp_path / "none") as store, pytest.raises(ValueError, match="row 1, column 'text': there is no text"):
        vecstone.ingest(store, pl.Series(["stone", None]), embed=Model().embed)


def test_texts_of_rows_as_dicts(store: vecstone.Store) -> None:
    model, rows = Model(), [{"id": id, "body": text, "n": n} for n, (id, text) in enumerate([("a", "x"), ("b", "yy")])]
    assert vecstone.ingest(store, rows, text_column="body", document_columns=["n"], embed=model.embed).embedded == 2
    assert store.get_documents(["a", "b"]) == [{"body": "x", "n": 0}, {"body": "yy", "n": 1}] and store["b"][0] == 2


# ---- columns that are not asked for ----


def tables(columns: dict[str, Any]) -> Iterator[Any]:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    odd = [1, "a"]
    yield pd.DataFrame({**columns, "odd": odd})
    yield pd.DataFrame({**columns, "odd": odd}).set_index("id")
    numbered: dict[Any, Any] = {**columns, 7: odd}
    yield pd.DataFrame(numbered)
    yield pl.DataFrame({**columns, "odd": pl.Series(odd, dtype=pl.Object)})
    yield {**columns, "odd": [object(), object()]}


def test_a_column_that_is_not_read_may_hold_anything(tmp_path: Path, rows: np.ndarray) -> None:
    for n, table in enumerate(tables({"id": names(2), "vector": rows[:2].tolist(), "year": [1, 2], "text": ["x", "yy"]})):
        for at, source in enumerate((table, iter([table]))):
            with vecstone.open(tmp_path / f"{n}-{at}") as store:
                vecstone.ingest(store, source, document_columns=["year"])
                assert store.get_documents(names(2)) == [{"year": 1}, {"year": 2}]
                vecstone.ingest(store, table, text_column="text", embed=Model().embed)
                assert store.get_documents(names(2)) == [{"text": "x"}, {"text": "yy"}]
                with pytest.raises(ValueError, match="nope"):
                    vecstone.ingest(store, table, document_columns=["nope"])


def test_columns_that_are_not_read_are_named_once(tmp_path: Path, rows: np.ndarray) -> None:
    columns: dict[str, Any] = {"id": names(9), "vector": rows[:9].tolist(), "year": [1] * 9, "title": ["x"] * 9}
    as_rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    sources: list[Any] = [columns, as_rows, jsonl(tmp_path / "x.jsonl", as_rows), iter([columns, columns])]
    if has_arrow():
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(columns)
        pq.write_table(table, tmp_path / "x.parquet", row_group_size=3)
        sources += [table, tmp_path / "x.parquet", iter(table.to_batches(3))]
    for n, source in enumerate(sources):
        with vecstone.open(tmp_path / f"{n}") as store:
            with pytest.warns(UserWarning, match="columns that were not read: 'year', 'title'; document_columns") as told:
                vecstone.ingest(store, source)
            assert len(told) == 1 and told[0].filename == __file__
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                for chosen in ([], ["year"], "*"):
                    vecstone.ingest(store, columns, document_columns=chosen)
                vecstone.ingest(store, {"id": names(9), "vector": rows[:9]})


def test_an_infinity_in_a_column(tmp_path: Path, rows: np.ndarray) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for value in (float("inf"), float("-inf"), float("nan")):
        columns = {"id": names(2), "vector": rows[:2].tolist(), "score": [1.0, value]}
        table = pa.table(columns)
        pq.write_table(table, tmp_path / "x.parquet")
        nested = pa.table({**columns, "score": [{"a": [1.0]}, {"a": [value]}]})
        sources: list[Any] = [table, nested, pl.DataFrame(columns), columns, tmp_path / "x.parquet", iter([columns]),
                              [{"id": id, "vector": row, "score": score} for id, row, score in zip(*columns.values())]]
        if value == value:
            sources.append(pd.DataFrame(columns))
        for n, source in enumerate(sources):
            with vecstone.open(tmp_path / f"{value}-{n}") as store:
                with pytest.raises(ValueError, match="""column .score., row 1|row 1, column .score."""):
                    vecstone.ingest(store, source, document_columns=["score"])
                assert len(store) == 0
    with vecstone.open(tmp_path / "missing") as store:  # pandas has no other word for what is missing
        vecstone.ingest(store, pd.DataFrame({"id": names(2), "vector": rows[:2].tolist(), "n": [1.5, None]}), document_columns="n")
        assert store.get_documents(names(2)) == [{"n": 1.5}, {"n": None}]
