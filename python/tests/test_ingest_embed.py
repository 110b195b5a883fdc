"""Texts that are embedded on the way: everything else is checked before they are paid for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, jsonl


class Paid:
    """Counts the texts that it embeds."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.texts += texts
        return np.array([[len(text) + 1] * DIM for text in texts], dtype="float32")


@pytest.fixture
def embed() -> Paid:
    return Paid()


def test_a_null_text(tmp_path: Path, store: vecstone.Store, embed: Paid) -> None:
    rows: list[dict[str, Any]] = [{"id": "a", "text": "x"}, {"id": "b", "text": None}]
    sources: list[tuple[Any, str]] = [
        (jsonl(tmp_path / "t.jsonl", rows), r"t\.jsonl: row 1, column 'text'.*'b'"),
        ({"id": ["a", "b"], "text": ["x", None]}, r"^row 1, column 'text'.*'b'"),
        (iter([{"id": ["a"], "text": [None]}]), r"^batch 0, row 0, column 'text'"),
    ]
    for source, match in sources:
        with pytest.raises(ValueError, match=match):
            vecstone.ingest(store, source, text_column="text", embed=embed)
    assert not embed.texts and len(store) == 0


def test_a_text_that_is_none(store: vecstone.Store, embed: Paid) -> None:
    for text, error in [(7, TypeError), (b"x", TypeError), ("\ud800", ValueError)]:
        with pytest.raises(error, match="^row 1, column 'text'"):
            vecstone.ingest(store, {"id": ["a", "b"], "text": ["x", text]}, text_column="text", embed=embed)
    assert not embed.texts


@pytest.mark.parametrize("bad, error", [("", ValueError), ("x" * 65_537, ValueError), (7, TypeError), (None, TypeError),
                                        (["list"], TypeError), ("\ud800", ValueError)])
def test_wrong_ids_cost_nothing(store: vecstone.Store, embed: Paid, bad: Any, error: type[Exception]) -> None:
    for resume in (True, False):
        with pytest.raises(error, match="row 1"):
            vecstone.ingest(store, {"id": ["a", bad], "text": ["x", "y"]}, text_column="text", embed=embed, resume=resume)
    assert not embed.texts and len(store) == 0


def test_another_kind_of_ids_costs_nothing(store: vecstone.Store, embed: Paid) -> None:
    store["a"] = np.ones(DIM)
    for resume in (True, False):
        with pytest.raises(TypeError, match="kind string.*kind u64"):
            vecstone.ingest(store, {"id": [1, 2], "text": ["x", "y"]}, text_column="text", embed=embed, resume=resume)
    assert not embed.texts


def test_a_store_that_cannot_be_written_costs_nothing(path: Path, embed: Paid) -> None:
    source = {"id": ["a"], "text": ["x"]}
    with vecstone.open(path, dim=DIM) as store:
        store["b"] = np.ones(DIM)
    with pytest.raises(ValueError, match="closed"):
        vecstone.ingest(store, source, text_column="text", embed=embed)
    with vecstone.open(path, mode="r") as store, pytest.raises(vecstone.ReadOnlyError):
        vecstone.ingest(store, source, text_column="text", embed=embed)
    assert not embed.texts


def test_a_fork_pays_nothing(path: Path, embed: Paid) -> None:
    with vecstone.open(path, dim=DIM) as store:
        store.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                vecstone.ingest(store, {"id": ["a"], "text": ["x"]}, text_column="text", embed=embed)
            except vecstone.ForkedError:
                status = 2 if embed.texts else 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_store_that_is_closed_between_two_batches(path: Path) -> None:
    store, calls = vecstone.open(path, dim=DIM), []

    def embed(texts: list[str]) -> np.ndarray:
        calls.append(texts)
        return np.ones((len(texts), DIM))

    def batches() -> Any:
        yield {"id": ["a"], "text": ["x"]}
        store.close()
        yield {"id": ["b"], "text": ["y"]}

    with pytest.raises(ValueError, match="closed"):
        vecstone.ingest(store, batches(), text_column="text", embed=embed)
    assert calls == [["x"]]


def test_documents_that_are_no_json_cost_nothing(store: vecstone.Store, embed: Paid) -> None:
    with pytest.raises(TypeError, match="row 1, column 'odd'"):
        vecstone.ingest(store, {"id": ["a", "b"], "text": ["x", "y"], "odd": [1, {2}]}, text_column="text", embed=embed,
                        document_columns="odd")
    assert not embed.texts


@pytest.mark.parametrize("gives, error, match", [
    (np.zeros((1, DIM)), ValueError, r"shape \(1, 16\) for 2 texts"),
    (np.zeros(DIM), ValueError, "shape"),
    (np.zeros((2, 5)), ValueError, "5 components.*dim 16"),
    (np.full((2, DIM), "x"), TypeError, "not numbers"),
    (np.full((2, DIM), np.nan), ValueError, "id 'a'"),
])
def test_what_embed_gives(store: vecstone.Store, gives: np.ndarray, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        vecstone.ingest(store, {"id": ["a", "b"], "text": ["x", "y"]}, text_column="text", embed=lambda texts: gives)
    assert len(store) == 0


def test_lists_are_vectors_too(store: vecstone.Store) -> None:
    done = vecstone.ingest(store, {"id": ["a", "b"], "text": ["x", "y"]}, text_column="text",
                           embed=lambda texts: [[1] * DIM for _ in texts])
    assert done == (2, 2, 0, 2) and store["a"].tolist() == [1.0] * DIM


def test_an_id_that_comes_twice(store: vecstone.Store, embed: Paid) -> None:
    source = {"id": ["a", "b", "a"], "text": ["one", "two", "three"]}
    assert vecstone.ingest(store, source, text_column="text", embed=embed) == (3, 2, 0, 2)
    assert embed.texts == ["two", "three"] and store.get_document("a") == {"text": "three"}
    # in another batch it is another text
    assert vecstone.ingest(store, source, text_column="text", embed=embed, batch_size=2) == (3, 2, 1, 2)
    assert store.get_document("a") == {"text": "three"} and len(store) == 2


def test_a_text_is_embedded_once_in_a_call(tmp_path: Path) -> None:
    texts = ["x", "y", "x", "x", "z", "y", "x", "w"]
    columns = {"id": [f"id-{n}" for n in range(8)], "text": texts}
    for resume in (True, False):
        for batch_size in (1, 3, 100):
            calls: list[str] = []

            def embed(given: list[str]) -> np.ndarray:
                calls.extend(given)
                return np.array([[ord(text[0])] * DIM for text in given], "float32")

            with vecstone.open(tmp_path / f"{resume}-{batch_size}") as store:
                done = vecstone.ingest(store, columns, text_column="text", embed=embed, batch_size=batch_size, resume=resume)
                assert (done.rows, done.written, done.embedded) == (8, 8, 4) and sorted(calls) == ["w", "x", "y", "z"]
                assert [store[id][0] for id in columns["id"]] == [ord(text) for text in texts]


def test_a_row_that_got_another_text_lends_its_vector_no_more(tmp_path: Path) -> None:
    def embed(given: list[str]) -> np.ndarray:
        return np.array([[ord(text[0])] * DIM for text in given], "float32")

    with vecstone.open(tmp_path / "s") as store:
        columns = {"id": ["a", "a", "b"], "text": ["x", "y", "x"]}
        done = vecstone.ingest(store, columns, text_column="text", embed=embed, batch_size=1)
        assert done.embedded == 3 and store["a"][0] == ord("y") and store["b"][0] == ord("x")
