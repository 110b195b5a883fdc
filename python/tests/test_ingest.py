"""Rows from files, tables and iterators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, jsonl, names


def test_every_source(tmp_path: Path, rows: np.ndarray) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    documents = [{"n": n, "tag": f"t{n}"} for n in range(100)]
    vectors = pa.FixedSizeListArray.from_arrays(rows.ravel(), DIM)
    columns = {"n": [d["n"] for d in documents], "tag": [d["tag"] for d in documents]}
    table = pa.table({"key": names(100), "embedding": vectors, **columns})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=17)
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, 13)
    lines = [{"key": id, "embedding": row.tolist(), **d} for id, row, d in zip(names(100), rows, documents)]
    of_dicts: dict[str, Any] = {"key": names(100), "embedding": rows, **columns}

    def batches(kind: str) -> Any:
        for at in range(0, 100, 30):
            part = table.slice(at, 30)
            if kind == "table":
                yield part
            elif kind == "batch":
                yield from part.to_batches()
            else:
                yield {name: of_dicts[name][at : at + 30] for name in of_dicts}

    sources = [tmp_path / "rows.parquet", str(tmp_path / "rows.arrow"), jsonl(tmp_path / "rows.jsonl", lines), table,
               table.to_batches()[0], of_dicts, batches("table"), batches("batch"), batches("dict")]
    for n, source in enumerate(sources):
        with vecstone.open(tmp_path / f"store{n}") as store:
            done = vecstone.ingest(store, source, id_column="key", vector_column="embedding",
                                   document_columns=["n", "tag"], batch_size=40)
            assert done == (100, 100, 0, 0), source
            assert list(store) == names(100) and np.array_equal(store.get_many(names(100)), rows)
            assert store.get_documents(names(100)) == documents
    with vecstone.open(tmp_path / "arrays") as store:
        done = vecstone.ingest(store, iter([(names(60), rows[:60], documents[:60]), (names(100)[60:], rows[60:])]))
        assert done.written == 100 and store.get_document("id-7") == documents[7] and store.get_document("id-70") is None


def test_npy(tmp_path: Path, store: vecstone.Store, rows: np.ndarray) -> None:
    np.save(tmp_path / "v.npy", rows.astype("float64"))
    assert vecstone.ingest(store, tmp_path / "v.npy", id_column=names(100)).written == 100
    assert np.array_equal(store.get_many(names(100)), rows)
    store.clear()
    assert vecstone.ingest(store, tmp_path / "v.npy").written == 100
    assert "v-000000099" in store
    with pytest.raises(ValueError, match="100 rows, but 3 ids"):
        vecstone.ingest(store, tmp_path / "v.npy", id_column=names(3))


def test_resume_writes_what_changed(store: vecstone.Store, rows: np.ndarray) -> None:
    def source(**changed: Any) -> dict[str, Any]:
        return {"id": names(100), "vector": rows, "year": list(range(100)), **changed}

    def go(source: Any, **options: Any) -> tuple[int, ...]:
        return vecstone.ingest(store, source, document_columns=["year"], **options)

    assert go(source()) == (100, 100, 0, 0)
    size = store.stats()["rows"]
    assert go(source()) == (100, 0, 100, 0) and store.stats()["rows"] == size
    other = rows.copy()
    other[3, 3] += 1
    assert go(source(vector=other)) == (100, 1, 99, 0)
    assert go(source(vector=other, year=[*range(99), 7])) == (100, 1, 99, 0) and store.get_document("id-99") == {"year": 7}
    other[5, 5] = -0.0 if other[5, 5] != 0 else 1
    assert go(source(vector=other, year=[*range(99), 7]))[1] == 1
    assert go(source(vector=other, year=[*range(99), 7]), resume=False)[1] == 100
    twice = {"id": ["x", "x"], "vector": rows[:2], "year": [1, 2]}
    assert go(twice)[1] == 1 and np.array_equal(store["x"], rows[1]) and go(twice)[1] == 0
    assert np.array_equal(store["x"], rows[1])


def test_embedding_is_never_paid_twice(store: vecstone.Store, tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def embed(texts: list[str]) -> np.ndarray:
        if len(calls) == fail_at:
            raise ConnectionError("no credit left")
        calls.append(texts)
        return np.array([[len(text)] * DIM for text in texts], dtype="float32")

    def lines(**changed: str) -> Path:
        rows = [{"id": f"id-{n}", "text": changed.get(f"id-{n}", f"text {n}"), "n": n} for n in range(100)]
        return jsonl(tmp_path / "texts.jsonl", rows)

    def go(path: Path, **options: Any) -> tuple[int, ...]:
        return vecstone.ingest(store, path, text_column="text", embed=embed, batch_size=8, **options)

    fail_at = 5
    with pytest.raises(ConnectionError):
        go(lines())
    with vecstone.open(store.path, mode="r") as reader:  # each batch was durable before the next was paid for
        assert len(reader) == 40
    fail_at = -1
    calls.clear()
    assert go(lines()) == (100, 60, 40, 60) and sum(map(len, calls)) == 60
    assert store.get_document("id-3") == {"text": "text 3"} and store["id-10"][0] == 7
    calls.clear()
    assert go(lines()) == (100, 0, 100, 0) and not calls
    assert go(lines(**{"id-5": "another"})) == (100, 1, 99, 1) and calls == [["another"]]
    calls.clear()
    assert go(lines(**{"id-5": "another"}), document_columns=["n"]) == (100, 100, 0, 0) and not calls
    assert store.get_document("id-5") == {"text": "another", "n": 5} and store["id-5"][0] == 7
    assert go(lines(), resume=False)[3] == 100

    def wrong(texts: list[str]) -> np.ndarray:
        return np.zeros((2, DIM))

    with pytest.raises(ValueError, match="shape"):
        vecstone.ingest(store, lines(**{"id-1": "new", "id-2": "new"}), text_column="text", embed=wrong,
                        embed_name=store.embed_name)
    with pytest.raises(ValueError, match="text_column"):
        vecstone.ingest(store, lines(), embed=embed)


def test_wrong_input(tmp_path: Path, store: vecstone.Store, rows: np.ndarray) -> None:
    (tmp_path / "noise").write_bytes(np.random.default_rng(3).bytes(1000))
    with pytest.raises(ValueError, match="noise"):
        vecstone.ingest(store, tmp_path / "noise")
    with pytest.raises(FileNotFoundError):
        vecstone.ingest(store, tmp_path / "nowhere.parquet")
    path = jsonl(tmp_path / "rows.jsonl", [{"id": "a", "vector": [1.0] * DIM}, {"id": "b", "vector": [1.0]}])
    with pytest.raises(ValueError, match="line 2"):
        vecstone.ingest(store, path)
    with pytest.raises(ValueError, match="vec.*'id'|'id'.*vec|no column"):
        vecstone.ingest(store, {"id": ["a"], "vec": rows[:1]})
    for source in (7, b"abc", [7]):
        with pytest.raises(TypeError):
            vecstone.ingest(store, source)
    with pytest.raises(ValueError, match="batch_size"):
        vecstone.ingest(store, [], batch_size=0)


def test_an_id_that_comes_twice(store: vecstone.Store, rows: np.ndarray) -> None:
    once = {"id": ["a", "b", "a"], "vector": rows[:3]}
    assert vecstone.ingest(store, once) == (3, 2, 0, 0)  # all rows are seen, and two written
    assert list(store) == ["b", "a"] and np.array_equal(store["a"], rows[2])
    assert vecstone.ingest(store, once) == (3, 0, 2, 0)
    store.clear()
    batches = [(["a", "b"], rows[:2]), (["b", "c"], rows[2:4]), (["a"], rows[:1])]
    assert vecstone.ingest(store, iter(batches)) == (5, 4, 1, 0)
    assert sorted(store) == ["a", "b", "c"] and np.array_equal(store["b"], rows[2])
    assert vecstone.ingest(store, iter(batches)) == (5, 2, 3, 0)  # b goes back and forth
    assert np.array_equal(store["b"], rows[2]) and np.array_equal(store["a"], rows[0])


class HuggingFace:
    """What `ingest` uses of a `datasets.Dataset`."""

    def __init__(self, table: Any, format: str | None = None) -> None:
        self._table, self._format = table, format

    def __len__(self) -> int:
        return self._table.num_rows  # type: ignore[no-any-return]

    def with_format(self, format: str) -> HuggingFace:
        return HuggingFace(self._table, format)

    def iter(self, batch_size: int) -> Iterator[Any]:
        assert self._format == "arrow"
        for at in range(0, len(self), batch_size):
            yield self._table.slice(at, batch_size)


def test_hugging_face(store: vecstone.Store, rows: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"id": names(100), "vector": rows.tolist(), "text": [f"t{n}" for n in range(100)]})
    done = vecstone.ingest(store, HuggingFace(table), document_columns=["text"], progress=True)
    assert done == (100, 100, 0, 0) and "100%" in capsys.readouterr().err
    assert np.array_equal(store.get_many(names(100)), rows) and store.get_document("id-7") == {"text": "t7"}
    store.clear()
    calls: list[int] = []

    def embed(texts: list[str]) -> np.ndarray:
        calls.append(len(texts))
        return np.ones((len(texts), DIM))

    assert vecstone.ingest(store, HuggingFace(table), text_column="text", embed=embed, batch_size=40).embedded == 100
    assert calls == [40, 40, 20]
    assert vecstone.ingest(store, HuggingFace(table.slice(0, 0))) == (0, 0, 0, 0)


def test_progress(store: vecstone.Store, rows: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    vecstone.ingest(store, {"id": ["a"] * 50 + ["b"] * 50, "vector": rows}, progress=True)
    assert "100%" in capsys.readouterr().err
    vecstone.ingest(store, {"id": names(100), "vector": rows}, progress=True)
    assert "100%" in capsys.readouterr().err
    vecstone.ingest(store, {"id": names(100), "vector": rows})
    assert capsys.readouterr().err == ""
