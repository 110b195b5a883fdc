"""LangChain's `VectorStore` on a vecstone store. Install with `pip install vecstone[langchain]`.

```python
from vecstone.langchain import VecstoneVectorStore

with VecstoneVectorStore("docs", embedding) as docs:
    docs.add_texts(["stone lasts", "paper burns"], [{"year": 1850}, {"year": 1953}])
    docs.similarity_search("granite", k=1, filter={"year": {"$lt": 1900}})
```

A row's document is `{"page_content": ..., "metadata": ...}`, its id a string. Scores are vecstone's distances:
smaller is nearer. Every `a...` method embeds with the embedding's own async method and waits for the store in a thread.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

import vecstone
from vecstone._check import check_ids, check_json, check_text, check_writable
from vecstone._embedder import Embedder, of_model
from vecstone._given import counted
from vecstone._metadata import DottedKeys, field

__all__ = ["VecstoneVectorStore"]


class VecstoneVectorStore(VectorStore):
    """A LangChain vector store in the directory `path`, created if it is not there.

    `embedding` gives every text a vector of the same length. `metric` is "cosine", "ip" or "l2"; None takes that of
    the store. `open_options` go to `vecstone.open`: `mode="r"` reads beside a writer, `durability="sync"` makes
    every write durable before it returns.

    `filter`, wherever it is taken, is a dict over the metadata (`{"lang": "en", "year": {"$gte": 2020}}`, with
    `$and`, `$or` and `$not`; see `vecstone.Store.search`) or a collection of ids. A key is one of the metadata's first
    level, letter for letter, dots too. `{"$document": {"metadata.author.name": "Ada"}}` reaches what lies deeper: it is
    a filter over the whole document.

    The first write records the name of the embedding in the store: `embed_name`, or its `model_name` or `model`. Another
    one is an EmbedderMismatch later; with `replace_embedder` the next write records the new one, and what is stored should
    be added again.

    Raises what `vecstone.open` raises: ValueError if the store has another metric, LockedError if another process
    writes to it. A search finds a ValueError in a row that was not written through this class.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        embedding: Embeddings,
        *,
        metric: Literal["cosine", "l2", "ip"] | None = "cosine",
        embed_name: str | None = None,
        replace_embedder: bool = False,
        **open_options: Any,
    ) -> None:
        self._embedding = embedding
        self._store = vecstone.open(path, metric=metric, **open_options)
        try:
            self._embedder = Embedder(self._store, embed_name or of_model(embedding), replace_embedder)
        except BaseException:
            self._store.close()
            raise
        self._dotted = DottedKeys('filter={{"$document": {{"{path}": ...}}}}')

    @property
    def store(self) -> vecstone.Store:
        """The store itself, for what LangChain has no word for: `flush`, `backup`, `stats`."""
        return self._store

    @property
    def embeddings(self) -> Embeddings:
        """The embedding given to the constructor."""
        return self._embedding

    def close(self) -> None:
        """Flushes and closes the store; a second call does nothing."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @classmethod
    def from_texts(  # type: ignore[override]  # needs a path
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | os.PathLike[str],
        **options: Any,
    ) -> Self:
        """Opens the store in `path` and adds the texts as `add_texts` does.

        `options` are the other arguments of the constructor.
        """
        self = cls(path, embedding, **options)
        try:
            self.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            self.close()
            raise
        return self

    @classmethod
    async def afrom_texts(  # type: ignore[override]
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | os.PathLike[str],
        **options: Any,
    ) -> Self:
        """`from_texts`, awaited."""
        self = await run_in_executor(None, cls, path, embedding, **options)
        try:
            await self.aadd_texts(texts, metadatas, ids=ids)
        except BaseException:
            self.close()
            raise
        return self

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = 1024,
        durability: _Durability = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embeds n texts and writes them, `batch_size` at a time; gives their n ids.

        A row with the same id is replaced. No ids, or None among them, become new UUIDs. Everything is checked
        before a text is embedded: ValueError for lists of different lengths, ids of 0 or above 65,536 bytes and a
        closed store, TypeError for texts and ids that are not str and metadata that is not JSON, ReadOnlyError.
        Durable within the flush interval, or after `store.flush()`, or at once with `durability="sync"`.
        """
        _refuse(kwargs)
        rows = self._rows(texts, metadatas, ids)
        for batch in _batches(rows, batch_size):
            check_writable(self._store, durability)
            vectors = self._embedding.embed_documents([text for _, text, _ in batch])
            self._write(batch, vectors, durability)
        return [id for id, _, _ in rows]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = 1024,
        durability: _Durability = None,
        **kwargs: Any,
    ) -> list[str]:
        """`add_texts`, awaited."""
        _refuse(kwargs)
        rows = self._rows(texts, metadatas, ids)
        for batch in _batches(rows, batch_size):
            await run_in_executor(None, check_writable, self._store, durability)
            vectors = await self._embedding.aembed_documents([text for _, text, _ in batch])
            await run_in_executor(None, self._write, batch, vectors, durability)
        return [id for id, _, _ in rows]

    def _rows(self, texts: Iterable[str], metadatas: Any, ids: Any) -> list[_Row]:
        rows = _rows(texts, metadatas, ids)
        check_ids([id for id, _, _ in rows], self._store.id_kind, "row {}".format)
        return rows

    def _write(self, rows: list[_Row], vectors: list[list[float]], durability: _Durability) -> None:
        self._store.put_many(
            [id for id, _, _ in rows],
            np.asarray(vectors, np.float32),
            [{"page_content": text, "metadata": metadata} for _, text, metadata in rows],
            durability=durability,
        )
        self._embedder.record()

    def delete(self, ids: Sequence[str] | None = None, *, filter: dict[str, Any] | None = None, **kwargs: Any) -> bool:
        """Deletes the rows with these ids or, without ids, those a filter matches, or else all. True, always.

        An id that is not there is no error.
        """
        _refuse(kwargs)
        if ids is not None and filter is not None:
            raise ValueError("delete() takes ids or filter, not both")
        if ids is not None:
            self._store.delete_many(ids)
        elif filter is not None:
            self._store.delete_where(self._translated(filter))
        else:
            self._store.clear()
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids in their order; ids that are not there are left out."""
        found = zip(ids, self._store.get_documents(ids), strict=True)
        return [_document(id, document) for id, document in found if document is not None]

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Any = None, recall_target: float | None = None
    ) -> list[tuple[Document, float]]:
        """The min(k, matching rows) documents nearest to a vector of dim numbers, nearest first, with distances.

        The distance is `1 - cos`, `1 - dot` or the squared L2, by the store's metric. `recall_target`: as of `Store.search`.
        """
        hits = self._store.search(embedding, k, filter=self._translated(filter), recall_target=recall_target, with_documents=True)
        return [(_document(hit.id, hit.document), float(hit.distance)) for hit in hits]

    async def asimilarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score_by_vector`, awaited."""
        return await run_in_executor(None, self.similarity_search_with_score_by_vector, embedding, k, **kwargs)

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """The min(k, matching rows) documents nearest to a text, nearest first, with distances.

        `kwargs`: `filter`, `recall_target`.
        """
        return self.similarity_search_with_score_by_vector(self._embedding.embed_query(query), k, **kwargs)

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score`, awaited."""
        embedding = await self._embedding.aembed_query(query)
        return await self.asimilarity_search_with_score_by_vector(embedding, k, **kwargs)

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """`similarity_search_with_score` without the distances."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """`similarity_search`, awaited."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """`similarity_search_with_score_by_vector` without the distances."""
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, **kwargs)]

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """k of the fetch_k documents nearest to a vector, chosen to differ from each other.

        `lambda_mult` 1 looks at nearness only, 0 at difference only; both by cosine, from the stored vectors.
        """
        _refuse(kwargs)
        hits = self._store.search(embedding, fetch_k, filter=self._translated(filter), with_vectors=True, with_documents=True)
        vectors = [hit.vector.tolist() for hit in hits]
        chosen = maximal_marginal_relevance(np.asarray(embedding), vectors, lambda_mult=lambda_mult, k=k)
        return [_document(hits[i].id, hits[i].document) for i in chosen]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """`max_marginal_relevance_search_by_vector` for a text."""
        embedding = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(embedding, k, fetch_k, lambda_mult, **kwargs)

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """`max_marginal_relevance_search`, awaited."""
        embedding = await self._embedding.aembed_query(query)
        return await self.amax_marginal_relevance_search_by_vector(embedding, k, fetch_k, lambda_mult, **kwargs)

    def _translated(self, filter: Any) -> Any:
        self._dotted.look_at(self._store, _keys(filter))
        return _translate(filter)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self._store.metric == "l2":
            return lambda distance: 1 / (1 + math.sqrt(distance))
        return lambda distance: min(1.0, max(0.0, 1.0 - distance))


_Row = tuple[str, str, dict[str, Any]]  # id, text, metadata
_Durability = Literal["buffered", "sync"] | None


def _refuse(kwargs: dict[str, Any]) -> None:
    """A misspelt `filter` must not find, or delete, everything."""
    if kwargs:
        raise TypeError(f"unknown arguments: {', '.join(kwargs)}")


def _batches(rows: list[_Row], size: int) -> list[list[_Row]]:
    if size < 1:
        raise ValueError(f"batch_size is {size}; give 1 or more")
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _rows(
    texts: Iterable[str], metadatas: Sequence[dict[str, Any]] | None, ids: Sequence[str | None] | None
) -> list[_Row]:
    if isinstance(texts, str):
        raise TypeError("texts is one str; give a list of them")
    texts = list(texts)
    metadatas = [{}] * len(texts) if metadatas is None else [metadata or {} for metadata in metadatas]
    ids = [None] * len(texts) if ids is None else ids
    if not len(texts) == len(metadatas) == len(ids):
        given = f"{counted(len(texts), 'text')}, {counted(len(metadatas), 'metadata')} and {counted(len(ids), 'id')}"
        raise ValueError(f"{given}: one each is needed")
    for row, (text, metadata, id) in enumerate(zip(texts, metadatas, ids, strict=True)):
        check_text(text, f"text {row}")
        if not isinstance(metadata, dict):
            raise TypeError(f"metadata {row} is a {type(metadata).__name__}, not a dict")
        check_json(metadata, "metadata")
        if not (id is None or isinstance(id, str)):
            raise TypeError(f"id {row} is a {type(id).__name__}, not a str")
    return [
        (str(uuid.uuid4()) if id is None else id, text, metadata)
        for id, text, metadata in zip(ids, texts, metadatas, strict=True)
    ]


def _document(id: Any, document: Any) -> Document:
    try:
        return Document(id=id, page_content=document["page_content"], metadata=document["metadata"])
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"row {id!r} was not written by this class: its document has no page_content and metadata"
        ) from error


def _translate(filter: Any) -> Any:
    """A filter over metadata as one over documents; a collection of ids stays as it is."""
    if not isinstance(filter, Mapping):
        return filter
    parts = [_translate_item(key, condition) for key, condition in filter.items()]
    return parts[0] if len(parts) == 1 else {"$and": parts} if parts else {}


def _translate_item(key: str, condition: Any) -> dict[str, Any]:
    if key == "$document":
        if not isinstance(condition, Mapping):
            raise TypeError(f"$document is a {type(condition).__name__}; give a filter over the document, a dict")
        return dict(condition)
    if not key.startswith("$"):
        return {field(key): condition}
    if isinstance(condition, list | tuple):
        return {key: [_translate(part) for part in condition]}
    return {key: _translate(condition)}


def _keys(filter: Any) -> list[str]:
    """The keys of metadata that a filter names."""
    if isinstance(filter, list | tuple):
        return [key for part in filter for key in _keys(part)]
    if not isinstance(filter, Mapping):
        return []
    own = [key for key in filter if not key.startswith("$")]
    return own + [key for name in ("$and", "$or", "$not") if name in filter for key in _keys(filter[name])]
