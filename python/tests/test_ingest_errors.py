"""What `ingest` refuses, and what it says about the place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, jsonl, names


def broken(rows: np.ndarray, row: int, value: float) -> np.ndarray:
    copy = rows.astype("float64")
    copy[row, 5] = value
    return copy


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_the_row_that_is_not_finite(tmp_path: Path, store: vecstone.Store, rows: np.ndarray, value: float) -> None:
    wrong = broken(rows, 47, value)
    np.save(tmp_path / "v.npy", wrong)
    columns = {"id": names(100), "vector": wrong}
    halves = [(names(100)[:40], wrong[:40]), (names(100)[40:], wrong[40:])]
    for source, match in [
        (tmp_path / "v.npy", r"v\.npy: row 47: component 5 of the vector is"),
        (columns, r"^row 47, column 'vector': component 5"),
        (iter(halves), r"^batch 1, row 7: component 5"),
        (iter([{"id": ids, "vector": vectors} for ids, vectors in halves]),
         r"^batch 1, row 7, column 'vector': component 5"),
    ]:
        with pytest.raises(ValueError, match=match):
            vecstone.ingest(store, source)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_the_row_of_an_arrow_table(tmp_path: Path, store: vecstone.Store, rows: np.ndarray, value: float) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"key": names(100), "embedding": broken(rows, 47, value).tolist()})
    pq.write_table(table, tmp_path / "v.parquet", row_group_size=30)
    with pa.OSFile(str(tmp_path / "v.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, 30)
    for source, match in [
        (tmp_path / "v.parquet", r"v\.parquet: row 47, column 'embedding': component 5"),
        (tmp_path / "v.arrow", r"v\.arrow: row 47, column 'embedding': component 5"),
        (table, r"^row 47, column 'embedding': component 5"),
        (iter(table.to_batches(20)), r"^batch 2, row 7, column 'embedding': component 5"),
    ]:
        with pytest.raises(ValueError, match=match):
            vecstone.ingest(store, source, id_column="key", vector_column="embedding")


def test_the_line_of_a_file(tmp_path: Path, store: vecstone.Store) -> None:
    lines: list[dict[str, Any]] = [{"id": f"{n}", "vector": [0.5] * DIM} for n in range(10)]
    lines[7]["vector"] = [0.5] * (DIM - 1) + [1e300]
    with pytest.raises(ValueError, match=r"v\.jsonl: (row 7, column 'vector': component 15|line 8)"):
        vecstone.ingest(store, jsonl(tmp_path / "v.jsonl", lines))


def test_vectors_of_another_length_than_the_stores(tmp_path: Path, store: vecstone.Store, rows: np.ndarray) -> None:
    np.save(tmp_path / "v.npy", rows[:, :5])
    with pytest.raises(ValueError, match=r"v\.npy: row 0: the vector has 5 components.*dim 16"):
        vecstone.ingest(store, tmp_path / "v.npy")
    with pytest.raises(ValueError, match=r"batch 1, row 0.* 5 components.*dim 16"):
        vecstone.ingest(store, iter([(["a"], rows[:1]), (["b"], rows[:1, :5])]))
    assert list(store) == ["a"]


@pytest.mark.parametrize("vectors", [
    np.full((2, DIM), "1.5"),
    np.full((2, DIM), True),
    np.full((2, DIM), 1j),
    np.full((2, DIM), None),
    [["1"] * DIM] * 2,
], ids=["text", "bool", "complex", "object", "list of text"])
def test_what_put_many_refuses_is_refused(tmp_path: Path, store: vecstone.Store, vectors: Any) -> None:
    sources: list[Any] = [iter([(["a", "b"], vectors)]), {"id": ["a", "b"], "vector": vectors}]
    if isinstance(vectors, np.ndarray) and vectors.dtype != object:
        np.save(tmp_path / "v.npy", vectors)
        sources.append(tmp_path / "v.npy")
    with pytest.raises(TypeError, match="not numbers"):
        store.put_many(["a", "b"], vectors)
    for source in sources:
        with pytest.raises(TypeError, match="not numbers"):
            vecstone.ingest(store, source)
    assert len(store) == 0


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint32", ">f4"])
def test_what_put_many_takes_is_taken(tmp_path: Path, store: vecstone.Store, dtype: str) -> None:
    vectors = np.arange(2 * DIM).reshape(2, DIM).astype(dtype)
    np.save(tmp_path / "v.npy", vectors)
    for source in (iter([(["a", "b"], vectors)]), {"id": ["a", "b"], "vector": vectors}, tmp_path / "v.npy"):
        store.clear()
        assert vecstone.ingest(store, source).written == 2
        assert np.array_equal(np.stack(list(store.values())), vectors.astype("float32"))


def test_no_rows(store: vecstone.Store) -> None:
    source: Any
    for source in ({"id": [], "vector": []}, iter([([], [])]), iter([]), {"id": [], "vector": np.empty((0, DIM))}):
        assert vecstone.ingest(store, source) == (0, 0, 0, 0)


def test_the_document_that_is_no_json(store: vecstone.Store, rows: np.ndarray) -> None:
    for value, error in [({1}, TypeError), (float("nan"), ValueError), ("\ud800", ValueError)]:
        columns = {"id": names(3), "vector": rows[:3], "n": [0, 1, 2], "odd": [None, None, value]}
        with pytest.raises(error, match="^row 2, column 'odd': "):
            vecstone.ingest(store, columns, document_columns=["n", "odd"])
        with pytest.raises(error, match="^batch 1, row 2, column 'odd': "):
            vecstone.ingest(store, iter([{**columns, "odd": [0, 0, 0]}, columns]), document_columns=["odd"])
        with pytest.raises(error, match="^batch 0, row 1, column 'document': "):
            vecstone.ingest(store, iter([(names(2), rows[:2], [None, {"a": value}])]))
    with pytest.raises(ValueError, match="^row 1, column 'document': not one JSON value.*NaN"):
        vecstone.ingest(store, {"id": names(2), "vector": rows[:2], "document": ["1", "[NaN]"]})


def test_the_id_that_is_none(tmp_path: Path, store: vecstone.Store, rows: np.ndarray) -> None:
    for bad, error in [("", ValueError), ("x" * 65_537, ValueError), (7, TypeError), (1.5, TypeError), (["a"], TypeError),
                       ("\ud800", ValueError), (None, TypeError)]:
        with pytest.raises(error, match="^row 1: "):
            vecstone.ingest(store, {"id": ["a", bad, "b"], "vector": rows[:3]})
    with pytest.raises(ValueError, match=r"^batch 1, row 0: .*2\^64"):
        with vecstone.open(tmp_path / "numbers") as numbers:
            vecstone.ingest(numbers, iter([([1], rows[:1]), ([-1], rows[:1])]))
    store["a"] = rows[0]
    with pytest.raises(TypeError, match="row 0.*kind string.*kind u64"):
        vecstone.ingest(store, {"id": [7], "vector": rows[:1]})


def test_columns_of_different_lengths(store: vecstone.Store, rows: np.ndarray) -> None:
    for columns, match in [
        ({"id": names(3), "vector": rows[:2]}, r"3 ids need vectors of shape \(3, dim\)"),
        ({"id": names(3), "vector": rows[:3], "document": [1]}, "3 ids, but 1 value in column 'document'"),
    ]:
        with pytest.raises(ValueError, match=match):
            vecstone.ingest(store, columns)
    with pytest.raises(ValueError, match="3 ids, but 1 document"):
        vecstone.ingest(store, iter([(names(3), rows[:3], [None])]))


def test_a_store_that_cannot_be_written(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store["a"] = rows[0]
    with pytest.raises(ValueError, match="closed"):
        vecstone.ingest(store, iter([]))
    with vecstone.open(path, mode="r") as store, pytest.raises(vecstone.ReadOnlyError):
        vecstone.ingest(store, iter([]))


def test_a_column_that_is_not_there_is_named_with_all_that_are(store: vecstone.Store) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"key": ["a", "b"], "embedding": [[1.0, 2.0]] * 2, "other": [b"x", 1]})
    with pytest.raises(ValueError, match='no column "id" for the ids; the columns are "key", "embedding", "other"; the index'):
        vecstone.ingest(store, frame)
    with pytest.raises(ValueError, match='no column "vector" for the vectors; the columns are "key", "embedding", "other"$'):
        vecstone.ingest(store, frame, id_column="key")
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match='no column "id" for the ids; the columns are "key", "embedding"$'):
        vecstone.ingest(store, pyarrow.table({"key": ["a"], "embedding": [[1.0]]}))
    assert len(store) == 0


def test_what_would_become_another_value_is_refused(store: vecstone.Store) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    months = pandas.period_range("2024-01", periods=2, freq="M")
    frame = pandas.DataFrame({"id": ["a", "b"], "vector": [[1.0] * 16] * 2, "month": months})
    with pytest.raises(ValueError, match='column "month" for the documents is of type pandas.period; convert it'):
        vecstone.ingest(store, frame, document_columns=["month"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_a_pipe_is_refused_at_once(store: vecstone.Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: not a regular file; write it to one first"):
        vecstone.ingest(store, tmp_path / "pipe")


def test_embed_is_a_function(store: vecstone.Store) -> None:
    bad: Any = "model"
    with pytest.raises(TypeError, match="embed is 'model'; give a function"):
        vecstone.ingest(store, ["text"], embed=bad)


def test_arguments_in_the_wrong_place(store: vecstone.Store, tmp_path: Path) -> None:
    anything: Any = vecstone.ingest
    for wrong in ([("a", [1.0])], "path", None):
        with pytest.raises(TypeError, match=r"store is a .*; write ingest\(store, source\)"):
            anything(wrong, store)
    with pytest.raises(TypeError, match="batch_size is 'a'; give a whole number"):
        anything(store, ["text"], embed=len, batch_size="a")
    with pytest.raises(ValueError, match="a source is a file of this machine; copy it"):
        anything(store, "https://example.org/rows.parquet")
    vecstone.open(tmp_path / "other", dim=2).close()
    with pytest.raises(ValueError, match="other: a store; hand it in open"):
        anything(store, tmp_path / "other")
