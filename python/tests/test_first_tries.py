"""What people try first, coming from elsewhere: it works, or the message says what to write."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names


@pytest.fixture
def two(store: vecstone.Store, rows: np.ndarray) -> vecstone.Store:
    store.put_many(names(2), rows[:2], [{"year": 2000}, {"year": 2010}])
    return store


# ---- searches ----


def test_arguments_of_other_stores(two: vecstone.Store, rows: np.ndarray) -> None:
    meant = {"limit": "k", "n": "k", "top_k": "k", "n_results": "k", "where": "filter", "threshold": "radius",
             "include": "with_documents", "with_payload": "with_documents", "include_vectors": "with_vectors", "K": "k",
             "documents": "with_documents", "ef": "recall_target", "nprobe": "recall_target"}
    calls: list[tuple[str, Callable[..., object]]] = [
        ("search", lambda **more: two.search(rows[0], **more)), ("search_many", lambda **more: two.search_many(rows[:1], **more)),
        ("search", lambda **more: two.snapshot().search(rows[0], **more)),
    ]
    for name, call in calls:
        for argument, ours in meant.items():
            # search_many gives no vectors.
            advice = f"; {ours}= is what it takes" if (name, ours) != ("search_many", "with_vectors") else "$"
            with pytest.raises(TypeError, match=f"^{name}\\(\\) has no argument '{argument}'{advice}"):
                call(**{argument: 1})
        with pytest.raises(TypeError, match=f"^{name}\\(\\) has no argument 'metric'$"):
            call(metric="l2")


def test_k_and_radius(two: vecstone.Store, rows: np.ndarray, tmp_path: Path) -> None:
    bad: Any
    for search in (two.search, two.search_many, two.snapshot().search):
        for bad in (None, "3", 2.5):
            with pytest.raises(TypeError, match="^k is .*; give a whole number"):
                search(rows[:1], k=bad)
        with pytest.raises(ValueError, match="radius is -1, and no cosine distance is below 0; leave it out"):
            search(rows[:1], radius=-1)
    with vecstone.open(tmp_path / "ip", metric="ip") as ip:
        ip.put_many(["a", "b"], [[2.0, 0.0], [0.0, 1.0]])
        assert ip.search([1.0, 0.0], radius=-1).ids == ["a"]  # 1 - 2


def test_filters(two: vecstone.Store, rows: np.ndarray) -> None:
    bad: Any = "year > 2003"
    for call in (lambda: two.search(rows[0], filter=bad), lambda: two.ids_where(bad), lambda: two.delete_where(bad)):
        with pytest.raises(TypeError, match="filter is the str 'year > 2003'; give a dict over documents, as {\"year\""):
            call()
    for word in ("and", "or"):
        with pytest.raises(ValueError, match=rf'"{word}" is a key here: give {{"\${word}": \[...\]}}'):
            two.ids_where({word: [{"year": 2000}, {"year": 2010}]})
    assert two.ids_where({"and": 1}) == two.ids_where({"or": ["a"]}) == []


def test_types_of_arguments_of_a_search(two: vecstone.Store, rows: np.ndarray) -> None:
    bad: Any = "yes"
    for search in (two.search, two.search_many, two.snapshot().search):
        for name in ("radius", "recall_target"):
            with pytest.raises(TypeError, match=f"^{name} is 'yes'; give a number"):
                search(rows[:1], **{name: bad})
        for name in ("exact", "with_documents", "explain"):
            with pytest.raises(TypeError, match=f"^{name} is 'yes'; give True or False"):
                search(rows[:1], **{name: bad})
        assert len(search(rows[:1], radius=float(np.float32(9)), exact=bool(1), with_documents=bool(0))) > 0
    for given, says in ((5, "filter is the int 5"), (b"x", "filter is the bytes b'x'"), (len, "filter is the builtin")):
        bad = given
        with pytest.raises(TypeError, match=f"^{says}"):
            two.ids_where(bad)
    with pytest.raises(ValueError, match=r'"gt" of key "year" is a key of an object here: give {"year": {"\$gt": ...}}'):
        two.ids_where({"year": {"gt": 2003}})


def test_names_of_methods_of_other_stores(two: vecstone.Store, rows: np.ndarray) -> None:
    anything: Any = two
    for name, says in (("add", "put_many"), ("upsert", "put_many"), ("query", "search"), ("count", "len"), ("commit", "flush"),
                       ("remove", "del store"), ("fetch", "get_many")):
        with pytest.raises(AttributeError, match=f"a Store has no '{name}'; {says}"):
            getattr(anything, name)
    with pytest.raises(AttributeError, match="a Store has no 'nothing'$"):
        anything.nothing  # noqa: B018
    assert not hasattr(two, "__array__")
    hits: Any = two.search(rows[0], 1)
    with pytest.raises(TypeError, match="have no 'ids'; write hits.ids, hits.distances"):
        hits["ids"]
    with pytest.raises(AttributeError, match=r"Hits have no 'documents'; write \[hit.document for hit in hits\]"):
        hits.documents  # noqa: B018
    for call in (anything.delete, anything.get, lambda ids: anything[ids]):
        with pytest.raises(TypeError, match="not list; several are for get_many, put_many and delete_many"):
            call(["a"])
    assert pickle.loads(pickle.dumps(hits)).ids == hits.ids


def test_a_hit(two: vecstone.Store, rows: np.ndarray) -> None:
    hit: Any = two.search(rows[0], 1)[0]
    for wrong in ("id", "distance", 0):
        with pytest.raises(TypeError, match="a Hit has attributes.*hit.id, hit.distance"):
            hit[wrong]
    for name, says in [("score", "distance: smaller is nearer"), ("metadata", "document"), ("payload", "document")]:
        with pytest.raises(AttributeError, match=f"no '{name}'; it has {says}"):
            getattr(hit, name)
    with pytest.raises(AttributeError, match="no 'rank'$"):
        hit.rank
    with pytest.raises(AttributeError, match="not asked for documents; give it with_documents=True"):
        hit.document
    with pytest.raises(AttributeError, match="not asked for vectors; give it with_vectors=True"):
        hit.vector
    asked: Any = two.search(rows[0], 1, with_documents=True, with_vectors=True)[0]
    for same in (asked, copy.copy(asked), pickle.loads(pickle.dumps(asked))):
        assert same.document == {"year": 2000} and np.array_equal(same.vector, rows[0]) and same == hit
    two.put_many(["id-0"], rows[:1], [vecstone.NO_DOCUMENT])
    assert two.search(rows[0], 1, with_documents=True)[0].document is None
    assert not hasattr(pickle.loads(pickle.dumps(hit)), "document")


# ---- stores ----


@pytest.mark.parametrize(("given", "error", "says"), [
    ("a\0b", ValueError, "zero byte"),
    (":memory:", ValueError, "a store is a directory; for one that goes away give tempfile.mkdtemp"),
    ("s3://bucket/docs", ValueError, "of this machine; copy it"), ("file:///tmp/x", ValueError, "leave file:// out"),
    ("", ValueError, "path is empty"), (7, TypeError, "path is a int; give a str"), (None, TypeError, "path is a NoneType"),
])
def test_paths_that_are_none(two: vecstone.Store, given: Any, error: type[Exception], says: str,
                             tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.listdir()
    for call in (lambda: vecstone.open(given), lambda: vecstone.open(given, dim=3), lambda: two.backup(given)):
        with pytest.raises(error, match=says):
            call()
    if isinstance(given, str):
        with pytest.raises(error, match=says):
            vecstone.ingest(two, given)
    assert os.listdir() == before


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given: Any
    for n, given in enumerate((os.fsencode(tmp_path / "0"), tmp_path / "1", "~/2")):
        with vecstone.open(given, dim=3) as store:
            store.put("a", [1, 2, 3])
            assert os.fspath(store.path) == os.fspath(tmp_path / f"{n}")
    with vecstone.open("~/2", mode="r") as store:
        store.backup("~/copy")
    np.save(tmp_path / "x.npy", np.eye(3, dtype="float32"))
    with vecstone.open("copy") as store:
        assert vecstone.ingest(store, "~/x.npy").rows == 3 and len(store) == 4
    assert not (tmp_path / "~").exists()


def test_a_parent_that_is_not_there(tmp_path: Path) -> None:
    for options in ({}, {"dim": 3}):
        with pytest.raises(FileNotFoundError, match="make the directory that is to hold it first, as os.makedirs") as error:
            vecstone.open(tmp_path / "a" / "b" / "c", **options)  # type: ignore[arg-type]
        assert os.fspath(error.value.filename) == os.fspath(tmp_path / "a" / "b" / "c")


def test_names_of_metrics(tmp_path: Path) -> None:
    given: Any
    for given, name in [("L2", "l2"), ("Cosine", "cosine"), ("IP", "ip"), ("COSINE", "cosine")]:
        with vecstone.open(tmp_path / given, metric=given, dim=2) as store:
            assert store.metric == name
    for given, says in [("dot", "'ip' is 1 minus the inner product"), ("euclidean", "'l2' is the sum of the squared differences")]:
        with pytest.raises(ValueError, match=f"metric '{given}' is none of .*; {says}"):
            vecstone.open(tmp_path / "other", metric=given)


# ---- ingest ----


def test_an_async_embed(store: vecstone.Store) -> None:
    async def embed(texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), DIM))

    wrong: Any = embed
    with pytest.raises(TypeError, match="embed is an async function; give a plain one, say lambda texts: asyncio.run"):
        vecstone.ingest(store, ["a"], embed=wrong)
    assert len(store) == 0


def test_decimals_of_duckdb(store: vecstone.Store) -> None:
    duckdb = pytest.importorskip("duckdb")
    numbers = ", ".join(f"{n}.5" for n in range(DIM))
    sources: list[Callable[[Any], Any]] = [lambda rows: rows, lambda rows: rows.to_arrow_table()]
    for source in sources:
        vecstone.ingest(store, source(duckdb.sql(f"SELECT 'a' AS id, [{numbers}] AS vector")), resume=False)
        assert store["a"].tolist() == [n + 0.5 for n in range(DIM)]
