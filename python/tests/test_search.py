"""Many queries at once, with ids of each kind; near rows only; keys of documents."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names

KINDS: dict[str, tuple[list[Any], Any, Any]] = {  # ids, what pads short rows, dtype
    "string": (["a", "b", "c"], None, object),
    "u64": ([0, 2**63, 2**64 - 2], 2**64 - 1, np.uint64),
    "uuid": ([uuid.UUID(int=n) for n in (0, 5, 2**128 - 1)], None, object),
}


@pytest.mark.parametrize("kind", KINDS)
def test_short_rows_are_padded(path: Path, rows: np.ndarray, kind: str) -> None:
    ids, padding, dtype = KINDS[kind]
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(ids, rows[:3])
        for found in (store.search_many(rows[:3], k=5), store.snapshot().search_many(rows[:3], k=5)):
            assert found.ids.dtype == dtype and found.distances.dtype == np.float32
            assert found.ids.shape == found.distances.shape == (3, 5)
            assert found.ids[:, 0].tolist() == ids and all(set(line[:3]) == set(ids) for line in found.ids.tolist())
            assert found.ids[:, 3:].ravel().tolist() == [padding] * 6
            assert np.isinf(found.distances[:, 3:]).all() and np.isfinite(found.distances[:, :3]).all()
            assert padding is not None or all(type(id) is type(ids[0]) for id in found.ids[:, :3].ravel())


@pytest.mark.parametrize("kind", KINDS)
def test_no_results(path: Path, rows: np.ndarray, kind: str) -> None:
    ids, padding, dtype = KINDS[kind]
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(ids, rows[:3], [{"n": n} for n in range(3)])
        assert store.search_many(rows[:4], k=0).ids.shape == (4, 0)
        assert len(store.search(rows[0], k=0)) == 0
        nothing = store.search_many(rows[:4], k=2, filter={"n": 7})
        assert nothing.ids.dtype == dtype and nothing.ids.ravel().tolist() == [padding] * 8
        assert store.search_many(rows[:1], k=2, filter=[]).ids.tolist() == [[padding] * 2]
        assert store.search_many(rows[:4], k=2, filter=ids[:1]).ids[:, 1].tolist() == [padding] * 4


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_radius_of_many(path: Path, rows: np.ndarray, metric: Any) -> None:
    with vecstone.open(path, dim=DIM, metric=metric) as store:
        store.put_many(names(100), rows)
        far = store.search_many(rows[:10], k=100)
        radius = float(far.distances[0, 6])
        near = store.search_many(rows[:10], k=100, radius=radius)
        for ids, distances, all_ids, all_distances in zip(near.ids, near.distances, far.ids, far.distances):
            inside = int((all_distances <= radius).sum())
            assert ids[:inside].tolist() == all_ids[:inside].tolist() and set(ids[inside:]) <= {None}
            assert np.array_equal(distances[:inside], all_distances[:inside]) and np.isinf(distances[inside:]).all()
        one = store.search(rows[0], k=100, radius=radius)
        assert one.ids == near.ids[0][:7].tolist()
        with pytest.raises(ValueError, match="radius"):
            store.search_many(rows[:1], radius=float("nan"))


def test_membership_of_the_views(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put("a", [0.1] * DIM)
    store.put("b", rows[0])
    item: Any
    views: Any
    for views in (store, store.snapshot()):
        assert rows[0] in views.values() and [0.1] * DIM in views.values()
        assert ("a", [0.1] * DIM) in views.items() and ("b", rows[0]) in views.items()
        for vector in (rows[1], rows[0][:5], rows[0][None], "text", None, 7, [[1], [1, 2]]):
            assert vector not in views.values() and ("b", vector) not in views.items()
        for item in (("b", rows[0], 1), "b", None, (7, rows[0]), ("c", rows[0]), ("a", rows[0])):
            assert item not in views.items()
        assert "a" in views.keys() and 7 not in views.keys()


def test_ids_of_numpy_text(store: vecstone.Store, rows: np.ndarray) -> None:
    ids = np.array(["a", "bé", "c" * 40])
    store.put_many(ids, rows[:3])
    assert list(store) == ids.tolist() and all(type(id) is str for id in store)
    assert np.array_equal(store.get_many(ids[::-1]), rows[2::-1]) and ids[1] in store
    assert store.search(rows[1], k=1, filter=ids[:2]).ids == ["bé"]
    assert store.delete_many(ids) == 3


def test_a_batch_of_nothing(path: Path) -> None:
    with vecstone.open(path) as store:
        vectors: Any
        for vectors in ([], np.empty((0, 7)), np.empty((0,))):
            store.put_many([], vectors)
            store.put_many(np.array([], dtype="int64"), vectors, [])
        assert store.dim is None and store.id_kind is None and len(store) == 0
        assert store.delete_many([]) == 0 and store.get_documents([]) == []


def test_keys_with_dots_and_dollars(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put_many(names(3), rows[:3], [{"file.name": 1, "$in": 2, "a\\b": 3}, {"file": {"name": 1}}, {"x": {"$in": 2}}])
    assert store.ids_where({"file.name": 1}) == ["id-1"] and store.ids_where({r"file\.name": 1}) == ["id-0"]
    assert store.ids_where({r"\$in": 2}) == ["id-0"] and store.ids_where({"x.$in": 2}) == ["id-2"]
    assert store.ids_where({r"a\\b": 3}) == ["id-0"]
    with pytest.raises(ValueError):
        store.ids_where({"$in": 2})
