"""What the adapters check before a text is paid for, and what they read at one moment."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

import vecstone
from conftest import DIM


def _embedding() -> Any:
    pytest.importorskip("langchain_core")
    from langchain_core.embeddings import DeterministicFakeEmbedding

    class Counting(DeterministicFakeEmbedding):
        texts: list[str] = []

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            self.texts.extend(texts)
            return super().embed_documents(texts)

        async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
            return self.embed_documents(texts)

    return Counting(size=DIM, texts=[])


def _langchain(path: Path, embedding: Any, **options: Any) -> Any:
    pytest.importorskip("langchain_core")
    from vecstone.langchain import VecstoneVectorStore

    return VecstoneVectorStore(path, embedding, **options)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"texts": ["x", 7]}, TypeError, "text 1 is a int"),
    ({"texts": ["x", None]}, TypeError, "text 1 is a NoneType"),
    ({"texts": "abc"}, TypeError, "texts is one str"),
    ({"texts": ["\ud800"]}, ValueError, "text 0"),
    ({"texts": ["x", "y"], "ids": ["a", 7]}, TypeError, "id 1 is a int"),
    ({"texts": ["x", "y"], "ids": ["a", ""]}, ValueError, "row 1: the id has 0 bytes"),
    ({"texts": ["x"], "ids": ["a" * 65_537]}, ValueError, "65537 bytes"),
    ({"texts": ["x"], "ids": ["\ud800"]}, ValueError, "row 0"),
    ({"texts": ["x"], "metadatas": [["a"]]}, TypeError, "metadata 0 is a list"),
    ({"texts": ["x"], "metadatas": [{"a": "\ud800"}]}, ValueError, r"metadata\['a'\]"),
    ({"texts": ["x"], "durability": "maybe"}, ValueError, "maybe"),
    ({"texts": ["x"], "batch_size": 0}, ValueError, "batch_size"),
    ({"texts": ["x"], "batch_size": -1}, ValueError, "batch_size"),
]


@pytest.mark.parametrize("arguments, error, text", WRONG)
async def test_wrong_arguments_cost_nothing(path: Path, arguments: Any, error: type[Exception], text: str) -> None:
    embedding = _embedding()
    with _langchain(path, embedding) as store:
        with pytest.raises(error, match=text):
            store.add_texts(**arguments)
        with pytest.raises(error, match=text):
            await store.aadd_texts(**arguments)
        assert not embedding.texts and len(store.store) == 0


async def test_a_store_that_cannot_be_written_costs_nothing(path: Path) -> None:
    embedding = _embedding()
    with _langchain(path, embedding) as store:
        store.add_texts(["stone"])
        embedding.texts.clear()
    for error, opened in [(ValueError, store), (vecstone.ReadOnlyError, _langchain(path, embedding, mode="r"))]:
        with pytest.raises(error):
            opened.add_texts(["x"])
        with pytest.raises(error):
            await opened.aadd_texts(["x"])
    assert not embedding.texts


def test_numbers_for_ids_cost_nothing(path: Path) -> None:
    with vecstone.open(path, dim=DIM) as numbers:
        numbers.put(7, [1.0] * DIM)
    embedding = _embedding()
    with _langchain(path, embedding) as store, pytest.raises(TypeError, match="kind u64.*kind string"):
        store.add_texts(["x"])
    assert not embedding.texts


def test_nodes_of_one_moment(path: Path) -> None:
    """A node's text and its embedding are of the same write, whatever is written meanwhile."""
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import TextNode

    from vecstone.llama_index import VecstoneVectorStore

    def nodes(n: int) -> list[Any]:
        return [TextNode(id_=str(i), text=str(n), embedding=[float(n + 1)] * DIM) for i in range(50)]

    with VecstoneVectorStore(path) as store:
        store.add(nodes(0))
        over = threading.Event()

        def write() -> None:
            n = 0
            while not over.is_set():
                n += 1
                store.add(nodes(n))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(30):
                found = store.get_nodes([str(i) for i in range(50)])
                assert len({node.get_content() for node in found}) == 1
                assert all(node.embedding == [float(node.get_content()) + 1] * DIM for node in found)
        finally:
            over.set()
            writer.join()


def test_a_description_holds_in_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_index.core")
    from vecstone.llama_index import VecstoneVectorStore

    monkeypatch.chdir(tmp_path)
    with VecstoneVectorStore("nodes") as store:
        described = store.to_dict()
    assert described["path"] == os.fspath(tmp_path / "nodes")
    os.mkdir(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with VecstoneVectorStore.from_dict(described) as again:
        assert again.client.path == tmp_path / "nodes"
    assert os.listdir() == []
