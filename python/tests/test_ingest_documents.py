"""What becomes the document of a row that is ingested: the same from every kind of source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, jsonl, names

Make = Callable[[dict[str, list[Any]]], Any]


class OldPandas:
    """A table as pandas had it before it spoke Arrow."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __getitem__(self, name: str) -> Any:
        return self._frame[name]

    def keys(self) -> Any:
        return self._frame.keys()

    @property
    def columns(self) -> Any:
        return self._frame.columns


@pytest.fixture(params=["dict", "batches", "pandas", "old pandas", "polars", "arrow", "arrow batches", "parquet", "jsonl"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes a source of that kind from columns."""
    kind: str = request.param
    if kind == "dict":
        return lambda columns: columns
    if kind == "batches":
        return lambda columns: iter([{name: column[at : at + 2] for name, column in columns.items()} for at in (0, 2, 4)])
    if kind == "jsonl":
        return lambda columns: jsonl(tmp_path / "rows.jsonl", [dict(zip(columns, row)) for row in zip(*columns.values())])
    pa = pytest.importorskip("pyarrow")
    if kind == "parquet":
        return lambda columns: _parquet(pa.table(columns), tmp_path / "rows.parquet")
    if kind == "arrow batches":
        return lambda columns: iter(pa.table(columns).to_batches(2))
    if kind == "arrow":
        return pa.table  # type: ignore[no-any-return]
    if kind == "polars":
        return pytest.importorskip("polars").DataFrame  # type: ignore[no-any-return]
    pd = pytest.importorskip("pandas")
    return lambda columns: OldPandas(pd.DataFrame(columns)) if kind == "old pandas" else pd.DataFrame(columns)


def _parquet(table: Any, path: Path) -> Path:
    pytest.importorskip("pyarrow.parquet").write_table(table, path)
    return path


def columns(rows: np.ndarray, **others: list[Any]) -> dict[str, list[Any]]:
    return {"id": names(3), "vector": rows[:3].tolist(), **others}


def test_a_document_column_is_the_document(store: vecstone.Store, rows: np.ndarray, make: Make,
                                           request: pytest.FixtureRequest) -> None:
    texts: list[Any] = ['{"a": 1}', None, '[1, "é"]']
    if "jsonl" in request.node.name:  # has no need of text for that
        texts = [{"a": 1}, None, [1, "é"]]
    for choice in (None, ["document"], "document", "*"):
        store.clear()
        assert vecstone.ingest(store, make(columns(rows, document=texts)), document_columns=choice).written == 3
        assert store.get_documents(names(3)) == [{"a": 1}, None, [1, "é"]], choice
        again = vecstone.ingest(store, make(columns(rows, document=texts)), document_columns=choice)
        assert again == (3, 0, 3, 0), choice


def test_beside_other_columns_it_is_a_member(store: vecstone.Store, rows: np.ndarray, make: Make) -> None:
    vecstone.ingest(store, make(columns(rows, document=["x", "y", "z"], n=[1, 2, 3])), document_columns=["document", "n"])
    assert store.get_document("id-1") == {"document": "y", "n": 2}


def test_text_that_is_no_json(store: vecstone.Store, rows: np.ndarray, make: Make, request: pytest.FixtureRequest) -> None:
    if "jsonl" in request.node.name:
        return  # there a string is a string
    with pytest.raises(ValueError, match="row 1.*document.*another name|document.*row 1.*another name"):
        vecstone.ingest(store, make(columns(rows, document=["1", "plain text", "2"])))


def test_which_columns(store: vecstone.Store, rows: np.ndarray, make: Make) -> None:
    others: dict[str, list[Any]] = {"title": ["a", "b", "c"], "year": [1, 2, 3]}
    choices: list[tuple[Any, Any]] = [
        (None, None),
        ([], None),
        ((), None),
        ("title", {"title": "b"}),
        (["title"], {"title": "b"}),
        (("year", "title"), {"year": 2, "title": "b"}),
        ("*", {"title": "b", "year": 2}),
    ]
    for choice, wanted in choices:
        store.clear()
        vecstone.ingest(store, make(columns(rows, **others)), document_columns=choice)
        assert store.get_document("id-1") == wanted, choice
    store.clear()
    vecstone.ingest(store, make(columns(rows, document=["1", "2", "3"])), document_columns=[])
    assert store.get_document("id-1") is None
    with pytest.raises(ValueError, match="nope"):
        vecstone.ingest(store, make(columns(rows)), document_columns="nope")
    with pytest.raises(TypeError, match="document_columns"):
        vecstone.ingest(store, make(columns(rows)), document_columns=[7])  # type: ignore[list-item]


def test_a_column_may_be_called_auto(store: vecstone.Store, rows: np.ndarray, make: Make) -> None:
    vecstone.ingest(store, make(columns(rows, auto=[1, 2, 3])), document_columns="auto")
    assert store.get_document("id-1") == {"auto": 2}


def test_the_text_is_kept_as_a_member(store: vecstone.Store, rows: np.ndarray, make: Make) -> None:
    def embed(texts: list[str]) -> np.ndarray:
        return rows[: len(texts)]

    for column in ("text", "document"):
        source: dict[str, list[Any]] = {"id": names(3), column: ["a", "b", "c"], "n": [1, 2, 3]}
        choices: list[tuple[Any, Any]] = [(None, {column: "b"}), ([], {column: "b"}), ("n", {column: "b", "n": 2})]
        for choice, wanted in choices:
            store.clear()
            done = vecstone.ingest(store, make(source), text_column=column, document_columns=choice, embed=embed)
            assert done.embedded == 3 and store.get_document("id-1") == wanted, (column, choice)
            done = vecstone.ingest(store, make(source), text_column=column, document_columns=choice, embed=embed)
            assert done == (3, 0, 3, 0), (column, choice)


def test_a_store_into_another(tmp_path: Path, store: vecstone.Store, rows: np.ndarray) -> None:
    pytest.importorskip("pyarrow")
    documents = [None, {"a": 1}, "text"]
    store.put_many(names(3), rows[:3], documents)
    tables: list[Callable[[], Any]] = [store.to_arrow, store.snapshot, lambda: store]
    for n, table in enumerate(tables):
        with vecstone.open(tmp_path / str(n)) as other:
            assert vecstone.ingest(other, table()).written == 3
            assert other.get_documents(names(3)) == documents


def test_values_of_python(store: vecstone.Store, rows: np.ndarray) -> None:
    documents = [{"a": [1, None]}, None, 7]
    vecstone.ingest(store, columns(rows, document=documents))
    assert store.get_documents(names(3)) == documents
    store.clear()
    vecstone.ingest(store, columns(rows, n=np.arange(3)), document_columns="n")  # type: ignore[arg-type]
    assert store.get_document("id-2") == {"n": 2}


def test_nothing_in_a_column_of_pandas(store: vecstone.Store, rows: np.ndarray) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(columns(rows, name=["a", None, "c"], n=[1.5, float("nan"), 2]))
    for source in (frame, OldPandas(frame)):
        store.clear()
        vecstone.ingest(store, source, document_columns=["name", "n"])
        assert store.get_document("id-1") == {"name": None, "n": None}, type(source)


def test_documents_of_arrays(store: vecstone.Store, rows: np.ndarray) -> None:
    def batches() -> Iterator[Any]:
        yield names(3), rows[:3], [{"n": n} for n in range(3)]

    choices: list[tuple[Any, Any]] = [(None, {"n": 1}), ("*", {"n": 1}), ([], None)]
    for choice, wanted in choices:
        store.clear()
        vecstone.ingest(store, batches(), document_columns=choice)
        assert store.get_document("id-1") == wanted
    with pytest.raises(ValueError, match="document_columns"):
        vecstone.ingest(store, batches(), document_columns=["n"])


def test_npy_has_no_columns(tmp_path: Path, store: vecstone.Store, rows: np.ndarray) -> None:
    np.save(tmp_path / "v.npy", rows)
    for choice in ("title", ["title"], "*"):
        with pytest.raises(ValueError, match="v.npy.*document_columns"):
            vecstone.ingest(store, tmp_path / "v.npy", document_columns=choice)
    assert vecstone.ingest(store, tmp_path / "v.npy", document_columns=[]).written == 100


def test_json_of_a_store_is_what_it_was(store: vecstone.Store, rows: np.ndarray) -> None:
    vecstone.ingest(store, columns(rows, document=["1.50", '{"b":1,  "a":2}', "null"]))
    table = store.to_arrow() if _has("pyarrow") else None
    if table is not None:
        assert table["document"].to_pylist() == ["1.50", '{"b":1,  "a":2}', None]
    assert store.get_documents(names(3)) == [1.5, json.loads('{"b":1,"a":2}'), None] and DIM == store.dim


def _has(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None
