"""A read-only handle whose path comes to name another store."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest

import vecstone
from conftest import DIM, names


def test_a_store_made_anew_is_shown_whole(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM, metric="l2") as store:
        store.put_many(names(20), rows[:20], [{"n": n} for n in range(20)])
    reader = vecstone.open(path, mode="r")
    snapshot, [segment], items = reader.snapshot(), reader.arrays(), iter(reader.items())
    first = next(items)
    shutil.rmtree(path)
    ids = [uuid.UUID(int=n) for n in range(5)]
    with vecstone.open(path, dim=3, metric="ip") as store:
        store.put_many(ids, np.arange(15, dtype="f4").reshape(5, 3), [{"m": n} for n in range(5)])
    assert reader.dim == DIM and reader.id_kind == "string"
    assert reader.refresh() is True
    assert (reader.dim, reader.metric, reader.id_kind, len(reader)) == (3, "ip", "uuid", 5)
    assert list(reader) == ids
    assert np.array_equal(reader[ids[4]], [12, 13, 14])
    assert reader.get_many(ids).shape == (5, 3)
    assert reader.get_document(ids[2]) == {"m": 2}
    assert reader.ids_where({"m": {"$gte": 3}}) == ids[3:]
    assert reader.search([1, 1, 1], k=1, filter={"m": {"$lt": 9}}).ids == [ids[4]]
    assert reader.stats()["dim"] == 3
    assert reader.verify()["ok"]
    with pytest.raises(TypeError):
        reader["id-0"]
    assert reader.refresh() is False
    # What was taken before stays whole.
    assert (snapshot.dim, snapshot.metric, snapshot.id_kind, len(snapshot)) == (DIM, "l2", "string", 20)
    assert first[0] == names(20)[0] and np.array_equal(first[1], rows[0])
    assert [id for id, _ in items] == names(20)[1:]
    assert np.array_equal(segment.vectors, rows[:20]) and segment.ids == names(20)
    assert np.array_equal(snapshot.get_many(names(20)), rows[:20])
    assert snapshot.get_document(names(20)[7]) == {"n": 7}
    reader.close()


def test_an_arrow_reader_outlives_the_store_that_it_is_of(path: Path, rows: np.ndarray) -> None:
    pa = pytest.importorskip("pyarrow")
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(50), rows[:50])
    reader = vecstone.open(path, mode="r")
    batches = pa.RecordBatchReader.from_stream(reader)
    shutil.rmtree(path)
    with vecstone.open(path, dim=3) as store:
        store.put_many(range(5), np.ones((5, 3), "f4"))
    assert reader.refresh() is True
    assert batches.read_all()["id"].to_pylist() == names(50)
    assert pa.RecordBatchReader.from_stream(reader).read_all()["id"].to_pylist() == list(range(5))
    reader.close()


def test_where_nothing_is_there_the_handle_says_so_and_goes_on(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(5), rows[:5])
    reader = vecstone.open(path, mode="r")
    aside = path.parent / "aside"
    path.rename(aside)
    with pytest.raises(FileNotFoundError):
        reader.refresh()
    assert np.array_equal(reader.get_many(names(5)), rows[:5])
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    with pytest.raises(vecstone.NotAStoreError):
        reader.refresh()
    assert list(reader) == names(5)
    shutil.rmtree(path)
    aside.rename(path)
    assert reader.refresh() is False
    reader.close()


@pytest.mark.parametrize("in_place", [False, True])
def test_a_backup_put_back_is_shown(path: Path, rows: np.ndarray, in_place: bool) -> None:
    backup = path.parent / "backup"
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(5), rows[:5])
        store.backup(backup)
        store.put_many(names(20), rows[:20])
        store.delete(names(1)[0])
        store.compact()
    reader = vecstone.open(path, mode="r")
    assert len(reader) == 19
    if in_place:
        for file in path.iterdir():
            file.unlink()
        shutil.copytree(backup, path, dirs_exist_ok=True)
    else:
        path.rename(path.parent / "old")
        shutil.copytree(backup, path)
    assert reader.refresh() is True
    assert list(reader) == names(5)
    assert np.array_equal(reader.get_many(names(5)), rows[:5])
    reader.close()
