"""The name of what made the vectors of a store."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone

TEXTS = ["stone lasts", "paper burns"]


def one(texts: list[str]) -> Any:
    return np.array([[len(text), 1] for text in texts])


def other(texts: list[str]) -> Any:
    return np.array([[1, len(text)] for text in texts])


class Model:
    model_name = "of the object"

    def embed(self, texts: list[str]) -> Any:
        return one(texts)

    __call__ = embed


def test_a_plain_function_is_recorded_and_another_one_refused(path: Path) -> None:
    called: list[list[str]] = []

    def never(texts: list[str]) -> Any:
        called.append(texts)

    with vecstone.open(path) as store:
        assert store.embed_name is None
        assert vecstone.ingest(store, TEXTS, embed=one).embedded == 2
        assert store.embed_name == f"{__name__}.one"
        assert vecstone.ingest(store, TEXTS, embed=one).embedded == 0
        with pytest.raises(vecstone.EmbedderMismatch, match=f"'{__name__}.one'.*never.*replace_embedder=True") as refused:
            vecstone.ingest(store, ["more"], embed=never)
        assert (refused.value.stored, called) == (f"{__name__}.one", [])
        assert isinstance(refused.value, vecstone.Error)
        assert isinstance(refused.value, ValueError)
        assert vecstone.ingest(store, TEXTS, embed=never, embed_name=f"{__name__}.one").unchanged == 2
    with vecstone.open(path, mode="r") as reader:
        assert (reader.embed_name, reader.stats()["embed_name"], len(reader)) == (f"{__name__}.one", f"{__name__}.one", 2)


@pytest.mark.parametrize("embed", [lambda texts: one(texts), Model().embed, Model(), partial(one)])
def test_what_has_no_name_of_its_own_records_nothing_unless_named(path: Path, embed: Any) -> None:
    with vecstone.open(path) as store:
        vecstone.ingest(store, TEXTS, embed=embed)
        assert store.embed_name is None
        vecstone.ingest(store, TEXTS, embed=embed, embed_name="m-1")
        assert store.embed_name == "m-1"
        vecstone.ingest(store, ["more"], embed=embed)  # says nothing of itself
        with pytest.raises(vecstone.EmbedderMismatch, match="'m-1', not by 'm-2'"):
            vecstone.ingest(store, TEXTS, embed=embed, embed_name="m-2")
        with pytest.raises(ValueError, match="needs a name"):
            vecstone.ingest(store, TEXTS, embed=embed, replace_embedder=True)


def test_replacing_makes_the_vectors_anew(path: Path) -> None:
    with vecstone.open(path, metric="l2") as store:
        vecstone.ingest(store, TEXTS, embed=one)

        def breaks(texts: list[str]) -> Any:
            if TEXTS[1] in texts:
                raise RuntimeError
            return other(texts)

        # Broken off, it has to be made whole before the new name counts.
        for _ in range(2):
            with pytest.raises(RuntimeError):
                vecstone.ingest(store, TEXTS, embed=breaks, embed_name="new", replace_embedder=True, batch_size=1)
            assert store.embed_name == "unfinished: new"
            for name in (None, "new"):
                with pytest.raises(vecstone.EmbedderMismatch, match="'unfinished: new', not by .*replace_embedder=True"):
                    vecstone.ingest(store, TEXTS, embed=one, embed_name=name)
        done = vecstone.ingest(store, TEXTS, embed=other, embed_name="new", replace_embedder=True)
        assert (done.embedded, done.written, store.embed_name) == (2, 2, "new")
        assert np.vstack(list(store.values())).tolist() == other(TEXTS).tolist()
        assert vecstone.ingest(store, TEXTS, embed=other, embed_name="new", replace_embedder=True).embedded == 0


def test_vectors_without_a_name_are_replaced_too(path: Path) -> None:
    with vecstone.open(path, metric="l2") as store:
        vecstone.ingest(store, TEXTS, embed=partial(one))

        def fails(texts: list[str]) -> Any:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            vecstone.ingest(store, TEXTS, embed=fails, embed_name="new", replace_embedder=True)
        assert store.stats()["embed_name"] is None, "nothing was replaced"
        assert vecstone.ingest(store, TEXTS, embed=other, embed_name="new", replace_embedder=True).embedded == 2
        assert store.embed_name == "new"
        assert np.vstack(list(store.values())).tolist() == other(TEXTS).tolist()


def test_names_are_text_of_some_length(store: vecstone.Store) -> None:
    rows = ["a"], np.ones((1, 16))
    for name in ("x" * 1025, "ü" * 513):
        with pytest.raises(ValueError, match=r"embed_name has 102. bytes"):
            vecstone.ingest(store, [rows], embed_name=name)
    wrong: Any = 7
    with pytest.raises(TypeError, match="embed_name is a int"):
        vecstone.ingest(store, [rows], embed_name=wrong)
    vecstone.ingest(store, [rows], embed_name="vectors made elsewhere")
    store.compact()
    store.clear()
    assert store.embed_name == "vectors made elsewhere"


def test_langchain_records_the_model(path: Path) -> None:
    embeddings = pytest.importorskip("langchain_core.embeddings")
    adapter = pytest.importorskip("vecstone.langchain").VecstoneVectorStore

    class Embeddings(embeddings.Embeddings):  # type: ignore[misc, name-defined]
        def __init__(self, **names: str) -> None:
            self.__dict__.update(names)

        def embed_documents(self, texts: list[str]) -> Any:
            return one(texts).tolist()

        def embed_query(self, text: str) -> Any:
            return self.embed_documents([text])[0]

    with adapter(path, Embeddings(model_name="m-1", model="ignored")) as docs:
        assert docs.store.embed_name is None
        docs.add_texts(TEXTS)
        assert docs.store.embed_name == "m-1"
    with pytest.raises(vecstone.EmbedderMismatch, match="'m-1', not by 'm-2'"):
        adapter(path, Embeddings(model="m-2"))
    adapter(path, Embeddings()).close()
    adapter(path, Embeddings(model="m-2"), embed_name="m-1").close()
    with adapter(path, Embeddings(model="m-2"), replace_embedder=True) as docs:
        docs.add_texts(TEXTS)
        assert docs.store.embed_name == "m-2"


def test_llama_index_records_the_model(path: Path) -> None:
    schema = pytest.importorskip("llama_index.core.schema")
    adapter = pytest.importorskip("vecstone.llama_index").VecstoneVectorStore
    nodes = [schema.TextNode(text="stone lasts", embedding=[1.0, 2.0])]
    with adapter(path, embed_model=Model()) as docs:
        docs.add(nodes)
        assert docs.client.embed_name == "of the object"
    with pytest.raises(vecstone.EmbedderMismatch, match="'of the object', not by 'm-2'"):
        adapter(path, embed_model="m-2")
    adapter(path).close()
    with adapter(path, embed_model="m-2", replace_embedder=True) as docs:
        docs.add(nodes)
        assert docs.client.embed_name == "m-2"
