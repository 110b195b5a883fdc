"""How exact a search is to be, how it says what it did, and what makes it fast: `optimize` and its option."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone

from conftest import DIM, names

STAGES = ["select", "rank", "scan", "refine", "fetch"]


def test_a_search_says_what_it_did(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put_many(names(50), rows[:50])
    for reading in (store, store.snapshot()):
        assert reading.search(rows[0]).explain is None and reading.search_many(rows[:2]).explain is None
        hits = reading.search(rows[0], k=5, filter=names(20), explain=True)
        explain = hits.explain
        assert explain is not None and list(explain["seconds"]) == STAGES
        assert all(0 <= time < 60 for time in explain.pop("seconds").values())
        assert 5 <= explain.pop("rows_refined") <= 20
        assert explain == {"path": "scan", "queries": 1, "partitions_visited": 0, "partitions_skipped": 0,
                           "codes_scanned": 0, "rows_scanned": 20, "why_exact": None}
        cases: list[tuple[dict[str, Any], str | None]] = [
            ({"recall_target": 0.9}, "no_codes"), ({"exact": False, "radius": 1.0}, "radius"),
            ({"recall_target": 0.995}, "no_codes"), ({"exact": True}, None),
        ]
        for options, why in cases:
            asked = reading.search(rows[0], explain=True, **options).explain
            assert asked is not None and asked["why_exact"] == why
        found = reading.search_many(rows[:3], k=2, explain=True)
        assert found.explain is not None and [one["queries"] for one in found.explain] == [3, 3, 3]
        assert len({tuple(one["seconds"].values()) for one in found.explain}) == 1, "all queries share the time"


def test_many_answers(store: vecstone.Store, rows: np.ndarray) -> None:
    store.put_many(names(3), rows[:3], [{"n": n} for n in range(3)])
    found = store.search_many(rows[:2], k=5, with_documents=True)
    ids, distances = found
    assert ids is found.ids and distances is found.distances and len(found) == 2
    assert found.exact.dtype == np.bool_ and found.exact.tolist() == [True, True]
    assert found.rows_read.dtype == np.int64 and found.rows_read.tolist() == [3, 3]
    assert found.documents is not None
    for line, documents in zip(ids, found.documents):
        assert [document and f"id-{document['n']}" for document in documents] == line.tolist()
    assert store.search_many(rows[:2], k=5).documents is None
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, vecstone.Neighbors) and np.array_equal(again.distances, distances)
    assert again.documents == found.documents and again.exact.all()
    nothing = store.search_many(np.empty((0, DIM)), k=2, with_documents=True, explain=True)
    assert nothing.exact.shape == (0,) and nothing.documents == [] and nothing.explain == []
    assert "ids" in repr(found)


def check_precision(reading: Any, queries: np.ndarray) -> None:
    """The same of `search` and `search_many`: what contradicts itself is refused, all else is exact so far."""
    for search, query in ((reading.search, queries[0]), (reading.search_many, queries)):
        precision: dict[str, Any]
        for precision in ({}, {"exact": True}, {"exact": False}, {"recall_target": 0.5}, {"recall_target": 1},
                          {"exact": True, "recall_target": 1.0}, {"exact": False, "recall_target": 0.1}):
            assert np.all(search(query, k=2, **precision).exact)
        for bad in (0, -0.5, 1.01, 95, float("nan"), float("inf"), 1e-60):
            with pytest.raises(ValueError, match="recall target"):
                search(query, k=2, recall_target=bad)
        with pytest.raises(ValueError, match="cannot be exact and have the recall target 0.9"):
            search(query, k=2, exact=True, recall_target=0.9)
        with pytest.raises(ValueError, match="radius"):
            search(query, k=2, radius=float("nan"))
        for wrong in ({"recall_target": "high"}, {"exact": "yes"}):
            with pytest.raises(TypeError):
                search(query, k=2, **wrong)


def test_exact_unless_told_otherwise(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, recall_target=0.9) as store:
        empty = store.snapshot()
        check_precision(store, rows[:2])  # of a store that is still to be made
        store.put_many(names(5), rows[:5])
        for reading in (store, store.snapshot(), empty):
            check_precision(reading, rows[:2])
        # Each handle has its own.
        with vecstone.open(path) as other:
            check_precision(other, rows[:2])
        store.flush()
        assert pickle.loads(pickle.dumps(store)).search(rows[0], k=1).exact
    bad: Any
    for bad in (0, 1.5, float("nan")):
        for mode in ("a", "r"):
            with pytest.raises(ValueError, match="recall target"):
                vecstone.open(path, mode=mode, recall_target=bad)
        with pytest.raises(ValueError, match="recall target"):
            vecstone.open(path.parent / "never made", recall_target=bad)
    assert not (path.parent / "never made").exists()


def test_optimize(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path) as store:
        assert store.optimize() == {"rows_covered": 0, "rows": 0, "bytes": 0}
        assert not path.exists()
        store.put_many(names(100), rows)
        seen: list[tuple[int, int]] = []
        report = store.optimize(progress=lambda done, total: seen.append((done, total)))
        assert report["rows"] == 100 and report["rows_covered"] == 0
        assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)
        with vecstone.open(path, mode="r") as reader:
            assert len(reader) == 100, "what was accepted before is durable"

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.optimize(stop)
        assert np.array_equal(store["id-7"], rows[7])
        store.put("more", rows[0])


def test_tune(path: Path) -> None:
    rows = np.random.default_rng(11).normal(size=(3000, 32)).astype("float32")
    queries = rows[:40] * 3
    with vecstone.open(path, auto_optimize_rows=0) as store:
        assert store.tune(queries) is None and not path.exists(), "still to be made"
        store.put_many(names(300), rows[:300])
        assert store.tune(queries[:, :32].tolist()) == store.stats()["effort"]
        store.put_many(names(3000), rows)
        store.optimize()
        before = store.stats()["effort"]
        seen: list[tuple[int, int]] = []
        tuned = store.tune(queries, progress=lambda done, total: seen.append((done, total)))
        assert tuned == store.stats()["effort"] and seen[-1][0] == seen[-1][1]
        if tuned is not None:  # else a processor for which codes are of no use
            assert (before["rows"], before["queries"]) == (300, 40), "optimize does not replace it"
            assert (tuned["rows"], tuned["queries"], len(tuned["looked"])) == (3000, 40, 12)
            assert tuned["looked"][0].keys() == {"k", "recall", "rows"}
            assert tuned["looked"] != before["looked"] and before["measured"] <= tuned["measured"] + 1
        store.optimize()
        assert store.stats()["effort"] == tuned, "until it is called again"

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.tune(queries, stop)
        check_what_cannot_be_measured_with(store, rows)
        assert store.stats()["effort"] == tuned
    with vecstone.open(path, mode="r") as reader, pytest.raises(vecstone.ReadOnlyError):
        reader.tune(queries)


def check_what_cannot_be_measured_with(store: vecstone.Store, rows: np.ndarray) -> None:
    nan = rows[:40].copy()
    nan[37, 5] = np.nan
    bad: Any
    for bad, raised, match in (
        (rows[0], ValueError, r"queries .*\(n, dim\)"),
        (rows[:1], ValueError, "1 query says little of others; give 32 or more"),
        (rows[:0], ValueError, "0 queries say little"),
        (rows[:31], ValueError, "31 queries say little"),
        (rows[:40, :31], ValueError, "dimension 32, this one has 31"),
        (nan, ValueError, "row 37"),
        (rows[:40].astype(complex), TypeError, "complex"),
        ([["a"] * 32] * 40, TypeError, "queries"),
        (None, TypeError, "queries"),
    ):
        with pytest.raises(raised, match=match):
            store.tune(bad)


def test_an_option_of_the_store(path: Path, rows: np.ndarray) -> None:
    with vecstone.open(path, auto_optimize_rows=7) as store:
        assert store.stats()["auto_optimize_rows"] == 7
        # Still to be made: other handles of it have the same option, or say nothing of it.
        vecstone.open(path).close()
        vecstone.open(path, auto_optimize_rows=7).close()
        with pytest.raises(ValueError, match="auto_optimize_rows 7, not 8"):
            vecstone.open(path, auto_optimize_rows=8)
        store["a"] = rows[0]
        with pytest.raises(ValueError, match="auto_optimize_rows 7, not 8"):
            vecstone.open(path, auto_optimize_rows=8)
    mode: Any
    for mode in ("a", "r+", "r"):
        for rows_given in (None, 7):
            vecstone.open(path, mode=mode, auto_optimize_rows=rows_given).close()
        with pytest.raises(ValueError, match="auto_optimize_rows 7, not 0"):
            vecstone.open(path, mode=mode, auto_optimize_rows=0)
    other = path.parent / "other"
    with vecstone.open(other, dim=DIM):
        vecstone.open(other, auto_optimize_rows=20_000).close()
        with pytest.raises(ValueError, match="auto_optimize_rows 20000, not 7"):
            vecstone.open(other, auto_optimize_rows=7)
    for bad, raised in ((-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("7", TypeError)):
        with pytest.raises(raised, match="auto_optimize_rows"):
            vecstone.open(other, auto_optimize_rows=bad)  # type: ignore[arg-type]


def test_two_first_writes_with_other_options(path: Path, rows: np.ndarray) -> None:
    """Another process makes the store meanwhile: what contradicts it is refused, and nothing is stored."""
    import subprocess
    import sys

    with vecstone.open(path, auto_optimize_rows=7) as store:
        made = f"import vecstone; vecstone.open({str(path)!r}, dim={DIM}, auto_optimize_rows=8).close()"
        subprocess.run([sys.executable, "-c", made], check=True)
        with pytest.raises(ValueError, match="auto_optimize_rows 8, not 7"):
            store["a"] = rows[0]
    with vecstone.open(path, auto_optimize_rows=8) as store:
        assert len(store) == 0
