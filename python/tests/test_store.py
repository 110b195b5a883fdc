"""The API, call by call."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names


def test_it_is_a_mapping(store: vecstone.Store, rows: np.ndarray) -> None:
    assert len(store) == 0 and store and "a" not in store and list(store) == []
    store["a"] = rows[0]
    store.put("b", rows[1].tolist())
    assert np.array_equal(store["a"], rows[0]) and np.array_equal(store["b"], rows[1])
    assert list(store) == ["a", "b"] and len(store) == 2
    assert [id for id, _ in store.items()] == list(store.keys()) == ["a", "b"]
    assert np.array_equal(np.stack(list(store.values())), rows[:2])
    store["a"] = rows[2]  # written anew: behind b now
    assert list(store) == ["b", "a"]
    del store["b"]
    with pytest.raises(KeyError, match="b"):
        store["b"]
    with pytest.raises(KeyError, match="b"):
        del store["b"]
    assert np.array_equal(store.pop("a"), rows[2]) and store.pop("a", None) is None
    store.update({"c": rows[3], "d": rows[4]})
    id, vector = store.popitem()
    assert id == "c" and np.array_equal(vector, rows[3])
    assert np.array_equal(store.setdefault("d", rows[0]), rows[4])
    assert store == store and store != {} and isinstance(hash(store), int)


def test_get_gives_a_copy_that_may_be_written_to(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put("a", rows[0])
    for _ in range(2):  # buffered, and from the files
        vector = store.get("a")
        assert vector is not None and vector.dtype == np.float32 and vector.flags.writeable
        vector[:] = 0
        assert np.array_equal(store["a"], rows[0])
        store.flush()
    assert store.get("b") is None and store.get("b", 7) == 7


def test_get_many_is_aligned(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put_many(names(100), rows)
    order = np.random.default_rng(1).permutation(100)
    assert np.array_equal(store.get_many([f"id-{n}" for n in order]), rows[order])
    assert store.get_many([]).shape == (0, DIM)
    assert np.array_equal(store.get_many(["id-3", "id-3"]), rows[[3, 3]])
    with pytest.raises(KeyError, match="nope"):
        store.get_many(["id-1", "nope"])
    found = store.get_many(["nope", "id-1", "neither"], missing="nan")
    assert np.isnan(found[[0, 2]]).all() and np.array_equal(found[1], rows[1])
    with pytest.raises(ValueError, match="missing"):
        store.get_many([], missing="skip")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint32", "int64", ">f4", ">f8"])
def test_any_real_dtype_and_strides(store: vecstone.Store, dtype: str) -> None:
    array = np.arange(10 * DIM).reshape(10, DIM).astype(dtype)
    expected = array.astype("float32")
    store.put_many(names(10), array)
    assert np.array_equal(store.get_many(names(10)), expected)
    for odd in (np.asfortranarray(array), array[::-1][::-1], np.repeat(array, 2, axis=1)[:, ::2]):
        store.clear()
        store.put_many(names(10), odd)
        assert np.array_equal(store.get_many(names(10)), expected)
    store.put("one", array[3, ::-1])
    assert np.array_equal(store["one"], expected[3, ::-1])


def test_wrong_vectors_are_refused(store: vecstone.Store, rows: np.ndarray) -> None:
    wrong: list[tuple[Any, type[Exception], str]] = [
        (rows[:2], ValueError, r"3 ids need vectors of shape \(3, dim\), these have shape \(2, 16\)"),
        (rows[0], ValueError, r"shape \(16,\)"),
        (rows[:3, :5], ValueError, "dimension 16, this one has 5"),
        ([[1.0] * DIM, [1.0], [1.0]], ValueError, "not of one length"),
        (np.full((3, DIM), "x"), TypeError, "not numbers"),
        (np.full((3, DIM), 1j), TypeError, "not numbers"),
        (np.full((3, DIM), True), TypeError, "not numbers"),
        (np.full((3, DIM), 1e300), ValueError, "row 0, column 0"),
        (np.where(np.arange(3 * DIM).reshape(3, DIM) == 20, np.nan, 1), ValueError, "row 1, column 4"),
    ]
    for vectors, error, text in wrong:
        with pytest.raises(error, match=text):
            store.put_many(names(3), vectors)
    one: list[Any] = [rows[:2], [], [[]], 7.0, None, "abc", rows[0, :5]]
    for vector in one:
        with pytest.raises((ValueError, TypeError)):
            store.put("a", vector)
    with pytest.raises(ValueError, match="3 ids, but 1 document;"):
        store.put_many(names(3), rows[:3], [None])
    assert len(store) == 0


def test_ids_of_every_kind(tmp_path: Path, rows: np.ndarray) -> None:
    kinds: dict[str, list[Any]] = {
        "string": ["a", "é", "\U0001f980", "x" * 65_536],
        "u64": [0, 1, 2**63, 2**64 - 2],
        "uuid": [uuid.UUID(int=n) for n in (0, 1, 2**127, 2**128 - 1)],
    }
    for kind, ids in kinds.items():
        with vecstone.open(tmp_path / kind, dim=DIM) as store:
            store.put_many(ids, rows[:4])
            assert store.id_kind == kind and list(store) == ids
            assert all(type(found) is type(id) for found, id in zip(store, ids))
            hits = store.search(rows[2], k=4)
            assert hits.ids[0] == ids[2] and set(hits.ids) == set(ids)
            other = next(ids for name, ids in kinds.items() if name != kind)
            for call in (store.get, store.delete, store.get_document, lambda id: store[id],
                         lambda id: store.get_many([id]), lambda id: store.put(id, rows[0])):
                with pytest.raises(TypeError, match=f"kind {kind}, this one is of kind"):
                    call(other[0])
            assert other[0] not in store
            assert store.delete_many([*ids[:2], ids[0]]) == 2 and len(store) == 2
        with vecstone.open(tmp_path / kind) as store:
            assert list(store) == ids[2:]


def test_integer_ids_of_numpy(tmp_path: Path, rows: np.ndarray) -> None:
    with vecstone.open(tmp_path / "s", dim=DIM) as store:
        store.put_many(np.arange(50), rows[:50])
        store.put_many(np.arange(50, 100, dtype="uint64"), rows[50:])
        store.put(np.int16(100), rows[0])
        assert store.get(np.uint8(7)) is not None and np.int64(99) in store and 101 not in store
        assert np.array_equal(store.get_many(np.arange(99, -1, -1)), rows[::-1])
        found = store.search_many(rows[:5], k=3)
        assert found.ids.dtype == np.uint64 and found.ids[:, 0].tolist() == [0, 1, 2, 3, 4]
        bad: Any
        for bad in (True, 1.0, b"1", None, np.float32(1), np.bool_(True)):
            with pytest.raises(TypeError):
                store.put(bad, rows[0])
            assert bad not in store
        for bad in (-1, 2**64 - 1, 2**64, 10**40):
            with pytest.raises(ValueError, match="between 0 and"):
                store.put(bad, rows[0])
        for ids in (np.array([-1]), np.array([2**64 - 1], dtype="uint64"), np.zeros((2, 2), dtype="int64")):
            with pytest.raises(ValueError):
                store.put_many(ids, rows[: len(ids)])
        with pytest.raises(TypeError):
            store.put_many(np.array([1.0]), rows[:1])


def test_wrong_ids_are_refused(store: vecstone.Store, rows: np.ndarray) -> None:
    for bad in ("", "x" * 65_537, "\ud800"):
        with pytest.raises(ValueError):
            store.put(bad, rows[0])
    with pytest.raises(TypeError, match="kind"):
        store.put_many(["a", 1], rows[:2])
    with pytest.raises(TypeError, match="list of ids"):
        store.put_many("ab", rows[:2])
    assert store.get("") is None and "" not in store and len(store) == 0


def test_documents(store: vecstone.Store, rows: np.ndarray) -> None:
    values: list[Any] = [None, {"a": [1, 2.5, None, True, "é\n\u2028"]}, [], "text", 7, False, 2**80, {"nested": {"x": {"y": 1}}}]
    store.put_many(names(len(values)), rows[: len(values)], values)
    for flush in (False, True):
        if flush:
            store.flush()
        assert store.get_documents(names(len(values))) == values
        assert [store.get_document(f"id-{n}") for n in range(len(values))] == values
    assert store.get_document("id-0", "none") == "none" and store.get_document("nope", 5) == 5
    store.put("id-1", rows[1])
    assert store.get_document("id-1") == values[1]
    store.put("id-1", rows[1], vecstone.NO_DOCUMENT)
    assert store.get_document("id-1") is None
    bad: Any
    for bad in (float("nan"), {1, 2}, object(), b"x", "\ud800"):
        with pytest.raises((TypeError, ValueError)):
            store.put("id-2", rows[2], bad)
        with pytest.raises((TypeError, ValueError), match="document of row 1"):
            store.put_many(["a", "b"], rows[:2], [None, bad])
    assert "a" not in store and store.get_document("id-2") == []


def test_search(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put_many(names(100), rows, [{"n": n, "even": n % 2 == 0} for n in range(100)])
    query = rows[7] + 0.01
    cosine = 1 - (rows @ query) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))
    order = np.argsort(cosine)
    hits = store.search(query, k=5)
    assert hits.ids == [f"id-{n}" for n in order[:5]] and len(hits) == 5
    assert hits.distances.dtype == np.float32 and np.allclose(hits.distances, cosine[order[:5]], atol=1e-6)
    assert hits.exact is True and hits.rows_read >= 100
    for (id, distance), hit in zip(hits, hits):
        assert (id, distance) == (hit.id, hit.distance) and not hasattr(hit, "vector") and not hasattr(hit, "document")
    assert hits[-1] == list(hits)[4] and hits[1:3] == list(hits)[1:3] and "id-7" in repr(hits)
    assert store.search(query[None, :], k=1).ids == ["id-7"]
    assert store.search(query.tolist(), k=0).ids == []
    assert len(store.search(query, k=1000)) == 100
    full = store.search(query, k=2, with_vectors=True, with_documents=True)[0]
    assert full.vector is not None and np.array_equal(full.vector, rows[7]) and full.document == {"n": 7, "even": False}
    for bad in (query[:5], np.full(DIM, np.nan)):
        with pytest.raises(ValueError):
            store.search(bad)
    for search in (store.search, store.search_many):
        with pytest.raises(ValueError, match="k is -1"):
            search(query[None], k=-1)
    with pytest.raises((MemoryError, ValueError)):
        store.search_many(query[None], k=1 << 60)
    assert len(store.search(query, k=1 << 60)) == len(store)


def test_search_many(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put_many(names(3), rows[:3])
    found = store.search_many(rows[:10].astype("float64"), k=5)
    ids, distances = found
    assert ids.shape == distances.shape == (10, 5) and ids.dtype == object and distances.dtype == np.float32
    assert (ids[:, 3:] == None).all() and np.isinf(distances[:, 3:]).all()  # noqa: E711
    for query, line, far in zip(rows[:10], found.ids, found.distances):
        hits = store.search(query, k=5)
        assert hits.ids == line[:3].tolist() and np.array_equal(hits.distances, far[:3])
    assert store.search_many(np.empty((0, DIM)), k=2).ids.shape == (0, 2)
    with pytest.raises(ValueError, match="shape"):
        store.search_many(rows[0])


def test_filters_and_radius(store: vecstone.Store, rows: np.ndarray) -> None:
    documents = [{"n": n, "lang": "en" if n % 3 else "de", "tags": ["t", str(n % 5)]} for n in range(100)]
    store.put_many(names(100), rows, documents)
    store.put("no document", rows[0])
    query = rows[0]
    assert len(store.search(query, k=10, filter={"lang": "de"})) == 10
    assert set(store.search(query, k=100, filter={"n": {"$lt": 3}}).ids) == {"id-0", "id-1", "id-2"}
    assert store.search(query, k=5, filter=["id-5", "id-6", "nope"]).ids != []
    assert set(store.search(query, filter={"id-5", "id-6"}).ids) == {"id-5", "id-6"}
    assert store.search(query, filter=[]).ids == [] and store.search_many(rows[:2], filter={"n": 7}).ids[0, 0] == "id-7"
    assert len(store.ids_where({"tags": {"$contains": "3"}})) == 20
    near = store.search(query, k=100)
    radius = float(near.distances[9])
    assert store.search(query, k=100, radius=radius).ids == near.ids[:10]
    bad: Any
    for bad in ({"n": {"$near": 1}}, {"$or": 3}, {"n": {"$in": 3}}):
        with pytest.raises(ValueError):
            store.search(query, filter=bad)
    for bad in (lambda row: True, 7, b"abc", "id-5"):
        with pytest.raises(TypeError):
            store.search(query, filter=bad)
    assert store.delete_where({"lang": "de"}) == 34 and len(store) == 67
    assert store.delete_where({"lang": "de"}) == 0


def test_modes(path: Path, rows: np.ndarray) -> None:
    mode: Any
    for mode in ("r", "r+"):
        with pytest.raises(FileNotFoundError):
            vecstone.open(path, mode=mode)
    for mode, text in (("w", "clear"), ("rw", "none of")):
        with pytest.raises(ValueError, match=text):
            vecstone.open(path, mode=mode)
    with vecstone.open(path, dim=DIM, metric="l2", mode="x") as store:
        store["a"] = rows[0]
    with pytest.raises(FileExistsError):
        vecstone.open(path, mode="x")
    with vecstone.open(path, mode="r") as store:
        assert store.metric == "l2" and store.mode == "r"
        for call in (lambda: store.put("b", rows[1]), lambda: store.delete("a"), store.clear, store.flush, store.compact,
                     store.optimize):
            with pytest.raises(vecstone.ReadOnlyError):
                call()
    with pytest.raises(ValueError, match="dim 16, not 8"):
        vecstone.open(path, dim=8)
    with pytest.raises(ValueError, match="l2, not by cosine"):
        vecstone.open(path, metric="cosine")
    bad: Any
    for bad in ({"metric": "euclid"}, {"durability": "maybe"}, {"dim": 0}, {"dim": -1}, {"dim": 10**6}, {"threads": 0},
                {"flush_interval": -1.0}, {"lock_timeout": float("nan")}):
        with pytest.raises(ValueError):
            vecstone.open(path.parent / "other", **bad)
    (path.parent / "file").write_text("x")
    (path.parent / "full").mkdir()
    (path.parent / "full" / "thesis.txt").write_text("x")
    for other in ("file", "full"):
        with pytest.raises((vecstone.Error, OSError)):
            vecstone.open(path.parent / other)


def test_closing(path: Path, rows: np.ndarray) -> None:
    store = vecstone.open(path, dim=DIM)
    store["a"] = rows[0]
    before = set(os.listdir("/proc/self/fd"))
    store.close()
    store.close()
    assert store.closed and "closed" in repr(store)
    for call in (lambda: store["a"], lambda: len(store), lambda: store.put("b", rows[1]), store.flush, store.stats,
                 lambda: store.search(rows[0]), lambda: "a" in store, lambda: list(store), store.arrays,
                 lambda: store.get_many(["a"]), lambda: store.dim, store.__enter__, lambda: store.put_many(["a"], rows[:1])):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert not [fd for fd in os.listdir("/proc/self/fd") if "store" in _target(fd)] and before


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


def test_snapshot_and_refresh(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store, vecstone.open(path, mode="r") as reader:
        store.put_many(names(10), rows[:10])
        snapshot = store.snapshot()
        store.clear()
        store["b"] = rows[20]
        store.flush()
        assert len(snapshot) == 10 and list(snapshot) == names(10) and np.array_equal(snapshot["id-3"], rows[3])
        assert snapshot.search(rows[4], k=1).ids == ["id-4"] and "b" not in snapshot
        assert dict(snapshot.items()).keys() == set(names(10)) and snapshot.get("b") is None
        assert len(reader) == 0 and reader.refresh() and list(reader) == ["b"] and not reader.refresh()
    assert np.array_equal(snapshot.get_many(names(10)), rows[:10])


def test_async(path: Path, rows: np.ndarray) -> None:
    async def write() -> None:
        with vecstone.open(path, dim=DIM) as store:
            store.put_many(names(100), rows)
            await store.flush_async()
            with vecstone.open(path, mode="r") as reader:
                assert len(reader) == 100

    asyncio.run(write())


def test_other_tasks_go_on_while_one_flushes(store: vecstone.Store, rows: np.ndarray) -> None:
    async def go() -> list[str]:
        seen: list[str] = []

        async def flush() -> None:
            store.put_many(names(100), rows)
            await store.flush_async()
            seen.append("flushed")

        async def other() -> None:
            seen.append("other")

        await asyncio.gather(flush(), other())
        return seen

    assert asyncio.run(go()) == ["other", "flushed"]


def test_stats_are_those_of_the_command_line(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM, metric="ip") as store:
        store.put_many(names(100), rows, [{"n": n} for n in range(100)])
        store.delete("id-3")
    told = subprocess.run([sys.executable, "-m", "vecstone", "info", path, "--json"], capture_output=True, text=True, check=True)
    with vecstone.open(path, mode="r") as store:
        stats, info = store.stats(), json.loads(told.stdout)
    assert stats["live"] == 99 and stats["dim"] == DIM and stats["metric"] == "ip"
    for volatile in ("memory", "recovery"):  # of this process, of this opening
        assert (stats.pop(volatile, None) is None) == (info.pop(volatile, None) is None)
    assert stats == info


def test_html_for_notebooks(store: vecstone.Store, rows: np.ndarray) -> None:
    assert "not fixed yet" in store._repr_html_()
    store.put_many([f"id-{n}" for n in range(1234)], np.resize(rows, (1234, DIM)))
    store.flush()
    html, stats = store._repr_html_(), store.stats()
    assert "<th>rows</th>" in html and "<td>1,234</td>" in html and f"<td>{DIM}</td>" in html
    assert f"<td>{stats['bytes']['total'] / 1024:.1f} KiB</td>" in html
    assert f"<th>overhead</th>" in html and f"<td>{stats['overhead']:.4f}</td>" in html


def test_stats_verify_backup_compact(store: vecstone.Store, rows: np.ndarray, tmp_path: Path) -> None:
    store.put_many(names(100), rows)
    store.delete_many(names(50))
    store.flush()
    seen = []
    assert store.verify()["ok"] is True
    store.compact(progress=lambda done, total: seen.append((done, total)))
    assert store.stats()["live"] == 50 and store.stats()["dead"] == 0
    store.backup(tmp_path / "copy")
    with pytest.raises(FileExistsError):
        store.backup(tmp_path / "copy")
    with vecstone.open(tmp_path / "copy", mode="r") as copied:
        assert np.array_equal(copied.get_many(names(100)[50:]), rows[50:])
    with pytest.raises(ZeroDivisionError):
        store.put_many(names(100), rows)
        store.delete_many(names(30))
        store.compact(progress=lambda done, total: 1 // 0)
    html = store._repr_html_()
    assert "<table>" in html and f"<td>{DIM}</td>" in html


def test_compact_leaves_segments_with_few_dead_rows(store: vecstone.Store) -> None:
    rows = np.ones((1000, DIM), dtype=np.float32)
    store.put_many(names(1000), rows)
    store.delete_many(names(9))
    left = {"segments": 0, "rows_dropped": 0, "bytes_freed": 0, "segments_left": 1, "rows_left": 9}
    assert store.compact() == left and store.stats()["dead"] == 9
    assert store.compact(min_dead=0.01) == left
    done = store.compact(min_dead=0.009)
    assert (done["segments"], done["rows_dropped"], done["segments_left"], done["rows_left"]) == (1, 9, 0, 0)
    store.delete("id-9")
    assert store.compact(min_dead=0)["rows_dropped"] == 1 and store.stats()["dead"] == 0
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="0.01 is usual"):
            store.compact(min_dead=share)


def test_damage_is_an_error(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(10), rows[:10])
    with open(path / "00000001.dat", "r+b") as file:
        file.seek(256 + 3 * DIM * 4)
        file.write(b"\xff")
    with vecstone.open(path, mode="r") as store:
        with pytest.raises(vecstone.CorruptError) as caught:
            store["id-3"]
        assert os.fspath(caught.value.path).endswith(".dat") and caught.value.offset == 256 + 3 * DIM * 4
        with pytest.raises(vecstone.CorruptError):
            store.get_many(names(10))
        assert store.verify()["ok"] is False and np.array_equal(store["id-4"], rows[4])


def test_copies_are_of_the_same_store(store: vecstone.Store, rows: np.ndarray) -> None:
    store["a"] = rows[0]
    other = copy.copy(store)
    assert other.mode == "r" and np.array_equal(other["a"], rows[0])
    other.close()


def test_a_notebook_shows_what_is_buffered(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM, flush_interval=600) as store:
        assert "overhead" not in store._repr_html_()
        store.put_many(names(3), rows[:3])
        html = store._repr_html_()
        assert "<th>buffered</th>" in html and "<td>3</td>" in html and "overhead" not in html
        store.flush()
        assert "buffered" not in store._repr_html_() and "<th>overhead</th>" in store._repr_html_()
