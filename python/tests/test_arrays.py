"""Rows where they lie: views of the mapped files, and Arrow."""

from __future__ import annotations

import gc
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names


def test_views_outlive_everything(path: Path, rows: np.ndarray) -> None:
    store = vecstone.open(path, dim=DIM)
    store.put_many(names(60), rows[:60])
    store.delete("id-7")
    (segment,) = store.arrays()
    vectors = segment.vectors
    assert vectors.shape == (60, DIM) and vectors.dtype == np.float32 and np.array_equal(vectors, rows[:60])
    assert not vectors.flags.writeable and not vectors.flags.owndata
    with pytest.raises(ValueError):
        vectors[0, 0] = 1
    assert segment.ids == names(60) and segment.live.tolist() == [n != 7 for n in range(60)] and len(segment) == 60
    again = store.arrays()[0].vectors
    assert again.__array_interface__["data"] == vectors.__array_interface__["data"]  # the same bytes, no copy
    store.put_many(names(40), rows[60:])
    store.compact()
    store.close()
    shutil.rmtree(path)
    del segment, store
    gc.collect()
    assert np.array_equal(vectors, rows[:60])


def test_the_views_are_numpys(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(100), rows)
        (segment,) = store.arrays()
    assert np.array_equal(np.asarray(segment), rows)
    assert np.array_equal(np.from_dlpack(segment.vectors), rows)
    assert np.allclose(segment.vectors @ rows[0], rows @ rows[0])


def test_arrow_out_and_in(tmp_path: Path, rows: np.ndarray) -> None:
    pa = pytest.importorskip("pyarrow")
    kinds: dict[str, list[Any]] = {"string": names(5), "u64": [0, 1, 2, 3, 2**64 - 2], "uuid": [uuid.UUID(int=n) for n in range(5)]}
    documents = [None, {"a": 1}, [1, "é"], "text", 0.5]
    for kind, ids in kinds.items():
        with vecstone.open(tmp_path / kind, dim=DIM) as store:
            store.put_many([*ids, ids[0]], rows[:6], [*documents, None])
            table = pa.table(store)
            assert table.equals(store.to_arrow()) and table.column_names == ["id", "vector", "document"]
            assert table.schema.field("vector").type == pa.list_(pa.float32(), DIM)
            assert table["id"].to_pylist() == [*ids[1:], ids[0]]
            found = np.array(table["vector"].combine_chunks().flatten()).reshape(-1, DIM)
            assert np.array_equal(found, rows[1:6])
            lines = table["document"].to_pylist()
            assert [line and json.loads(line) for line in lines] == [*documents[1:], None]
            assert pa.table(store.snapshot()).equals(table)
        with vecstone.open(tmp_path / f"{kind} again") as other:
            assert vecstone.ingest(other, table, document_columns=["document"]).written == 5
            assert list(other) == [*ids[1:], ids[0]] and other.id_kind == kind
            assert other.get_documents(ids[1:]) == documents[1:] and np.array_equal(other[ids[3]], rows[3])


def test_tables(store: vecstone.Store, rows: np.ndarray) -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    store.put_many(names(3), rows[:3], [{"n": n} for n in range(3)])
    frame = store.to_pandas()
    assert isinstance(frame, pd.DataFrame) and list(frame["id"]) == names(3)
    assert np.array_equal(np.stack(list(frame["vector"])), rows[:3])
    table = store.to_polars()
    assert isinstance(table, pl.DataFrame) and table["id"].to_list() == names(3)
    assert np.array_equal(table["vector"].to_numpy(), rows[:3])
    for source in (frame, table):
        store.clear()
        assert vecstone.ingest(store, source, document_columns=["document"]).written == 3
        assert np.array_equal(store.get_many(names(3)), rows[:3])


def test_duckdb_reads_it(store: vecstone.Store, rows: np.ndarray) -> None:
    duckdb = pytest.importorskip("duckdb")
    store.put_many(names(10), rows[:10])
    rows_there = store.to_arrow()
    assert duckdb.sql("select count(*), min(id) from rows_there").fetchall() == [(10, "id-0")]
    result = duckdb.sql("select id, vector from rows_there where id < 'id-5'")
    store.clear()
    assert vecstone.ingest(store, result).written == 5
    assert np.array_equal(store["id-3"], rows[3]) and rows_there.num_rows == 10
