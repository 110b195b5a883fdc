"""Every call of a closed store says that it is closed; what was taken from it before goes on."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names

VECTOR = np.ones(DIM, dtype="float32")

CALLS: dict[str, Callable[[vecstone.Store, Path], Any]] = {
    "put": lambda store, path: store.put("b", VECTOR),
    "put_many": lambda store, path: store.put_many(["b"], VECTOR[None]),
    "put_many of nothing": lambda store, path: store.put_many([], []),
    "setitem": lambda store, path: store.__setitem__("b", VECTOR),
    "update": lambda store, path: store.update({"b": VECTOR}),
    "setdefault": lambda store, path: store.setdefault("a", VECTOR),
    "pop": lambda store, path: store.pop("a"),
    "popitem": lambda store, path: store.popitem(),
    "delete": lambda store, path: store.delete("a"),
    "delitem": lambda store, path: store.__delitem__("a"),
    "delete_many": lambda store, path: store.delete_many(["a"]),
    "delete_where": lambda store, path: store.delete_where({}),
    "clear": lambda store, path: store.clear(),
    "flush": lambda store, path: store.flush(),
    "flush_async": lambda store, path: asyncio.run(store.flush_async()),
    "compact": lambda store, path: store.compact(),
    "optimize": lambda store, path: store.optimize(),
    "tune": lambda store, path: store.tune(np.ones((32, 2))),
    "verify": lambda store, path: store.verify(),
    "backup": lambda store, path: store.backup(path / "copy"),
    "refresh": lambda store, path: store.refresh(),
    "snapshot": lambda store, path: store.snapshot(),
    "stats": lambda store, path: store.stats(),
    "arrays": lambda store, path: store.arrays(),
    "get": lambda store, path: store.get("a"),
    "get of nothing": lambda store, path: store.get("nope", 7),
    "getitem": lambda store, path: store["a"],
    "get_many": lambda store, path: store.get_many(["a"]),
    "get_document": lambda store, path: store.get_document("a"),
    "put_document": lambda store, path: store.put_document("a", {"n": 1}),
    "put_documents": lambda store, path: store.put_documents(["a"], [{"n": 1}]),
    "update_documents": lambda store, path: store.update_documents(["a"], [{"n": 1}]),
    "aput_document": lambda store, path: asyncio.run(store.aput_document("a", {"n": 1})),
    "aput_documents": lambda store, path: asyncio.run(store.aput_documents(["a"], [{"n": 1}])),
    "aupdate_documents": lambda store, path: asyncio.run(store.aupdate_documents(["a"], [{"n": 1}])),
    "get_documents": lambda store, path: store.get_documents(["a"]),
    "ids_where": lambda store, path: store.ids_where({}),
    "search": lambda store, path: store.search(VECTOR),
    "search_many": lambda store, path: store.search_many(VECTOR[None]),
    "contains": lambda store, path: "a" in store,
    "len": lambda store, path: len(store),
    "iter": lambda store, path: list(store),
    "keys": lambda store, path: list(store.keys()),
    "items": lambda store, path: list(store.items()),
    "values": lambda store, path: list(store.values()),
    "attrs": lambda store, path: store.attrs,
    "set_attrs": lambda store, path: store.set_attrs({"a": 1}),
    "embed_name": lambda store, path: store.embed_name,
    "dim": lambda store, path: store.dim,
    "metric": lambda store, path: store.metric,
    "id_kind": lambda store, path: store.id_kind,
    "with": lambda store, path: store.__enter__(),
    "pickle": lambda store, path: pickle.dumps(store),
    "copy": lambda store, path: copy.copy(store),
    "arrow": lambda store, path: store.__arrow_c_stream__(),
    "ingest": lambda store, path: vecstone.ingest(store, {"id": ["b"], "vector": VECTOR[None]}),
}


@pytest.mark.parametrize("mode", ["a", "r"])
@pytest.mark.parametrize("call", CALLS)
def test_it_is_closed(path: Path, tmp_path: Path, call: str, mode: Any) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store["a"] = VECTOR
    with vecstone.open(path, mode=mode) as store:
        pass
    with pytest.raises(ValueError, match="closed"):
        CALLS[call](store, tmp_path)
    assert not (tmp_path / "copy").exists()


def test_every_method_is_among_them() -> None:
    public = {name for name in dir(vecstone.Store) if not name.startswith("_")}
    known = {call.split()[0] for call in CALLS} | {"close", "closed", "mode", "path"}
    assert public - known == {"to_arrow", "to_pandas", "to_polars"}  # __arrow_c_stream__ stands for them


def test_what_a_closed_store_still_tells(path: Path) -> None:
    store = vecstone.open(path, dim=DIM)
    store.close()
    store.close()
    assert store.closed and store.mode == "a" and store.path == path
    assert "closed" in repr(store) and "closed" in store._repr_html_()


def test_a_snapshot_outlives_its_store(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store.put_many(names(10), rows[:10], [{"n": n} for n in range(10)])
        store.flush()
        snapshot, iterator = store.snapshot(), iter(store.items())
    assert [id for id, _ in iterator] == names(10)
    assert snapshot.search(rows[3], k=1).ids == ["id-3"]
    assert snapshot.search_many(rows[:2], k=1).ids.tolist() == [["id-0"], ["id-1"]]
    assert snapshot.get_document("id-3") == {"n": 3} and snapshot.ids_where({"n": {"$lt": 2}}) == ["id-0", "id-1"]
    assert np.array_equal(snapshot.get_many(names(10)), rows[:10]) and len(snapshot.arrays()[0]) == 10
