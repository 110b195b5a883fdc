"""LlamaIndex's vector store on a vecstone store. Install with `pip install vecstone[llama-index]`.

```python
from llama_index.core import StorageContext, VectorStoreIndex
from vecstone.llama_index import VecstoneVectorStore

store = VecstoneVectorStore("docs")
index = VectorStoreIndex.from_documents(
    documents, storage_context=StorageContext.from_defaults(vector_store=store)
)
```

A row's id is the node's; its document is `{"metadata": ..., "ref_doc_id": ..., "type": ..., "node": ...}`, where
`node` is the rest of the node without its embedding, so that no other docstore is needed.
"""

from __future__ import annotations

import asyncio
import math
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.schema import BaseNode, Document, ImageNode, IndexNode, Node, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

import vecstone
from vecstone._check import check_json
from vecstone._embedder import Embedder, of_model
from vecstone._metadata import DottedKeys, field

__all__ = ["VecstoneVectorStore"]


class VecstoneVectorStore(BasePydanticVectorStore):
    """A LlamaIndex vector store in the directory `path`, created if it is not there.

    `metric` is "cosine", "ip" or "l2"; None takes that of the store. `open_options` go to `vecstone.open`: `mode="r"`
    reads beside a writer, `durability="sync"` makes every write durable before it returns.

    Filters may be nested and take every operator; where `SimpleVectorStore` answers, the answer is the same. A key is one
    of the metadata's first level, letter for letter, dots too; a filter of vecstone's over the whole document reaches what
    lies deeper (`vector_store_kwargs={"filter": {"metadata.author.name": "Ada"}}` of LlamaIndex's retriever), and is obeyed
    beside the others. A value of another type than the operator needs never matches.

    LlamaIndex tells a vector store nothing of the model; give it as `embed_model`, or its name. The first write records the
    name (`model_name` or `model`) in the store, and another one is an EmbedderMismatch later; with `replace_embedder` the
    next write records the new one, and what is stored should be added again.

    Raises what `vecstone.open` raises: ValueError if the store has another metric, LockedError if another process
    writes to it. The async methods wait for the store in a thread.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    path: str
    metric: Literal["cosine", "l2", "ip"] | None
    open_options: dict[str, Any] = Field(default_factory=dict)
    _store: vecstone.Store = PrivateAttr()
    _embedder: Embedder = PrivateAttr()
    _dotted: DottedKeys = PrivateAttr(
        default_factory=lambda: DottedKeys('vector_store_kwargs={{"filter": {{"{path}": ...}}}}')
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        metric: Literal["cosine", "l2", "ip"] | None = "cosine",
        embed_model: Any = None,
        replace_embedder: bool = False,
        **open_options: Any,
    ) -> None:
        store = vecstone.open(path, metric=metric, **open_options)
        try:
            embedder = Embedder(store, of_model(embed_model), replace_embedder)
        except BaseException:
            store.close()
            raise
        # Absolute, so that what `to_dict` says is true in any directory.
        super().__init__(path=os.fspath(store.path), metric=metric, open_options=open_options)  # type: ignore[call-arg]
        self._store, self._embedder = store, embedder

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized form."""
        return "VecstoneVectorStore"

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Opens the store that `to_dict` described."""
        return cls(data["path"], metric=data["metric"], **{**data["open_options"], **kwargs})

    @property
    def client(self) -> vecstone.Store:
        """The store itself, for what LlamaIndex has no word for: `flush`, `backup`, `stats`."""
        return self._store

    def close(self) -> None:
        """Flushes and closes the store; a second call does nothing."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Writes n nodes as one batch and gives their n ids; a node with the same id is replaced.

        ValueError if a node has no embedding or one of another length than the store's. `kwargs` are LlamaIndex's.
        Durable within the flush interval, or after `persist`.
        """
        ids = [node.node_id for node in nodes]
        if ids:
            vectors = np.asarray([node.get_embedding() for node in nodes], np.float32)
            self._store.put_many(ids, vectors, [_to_document(node) for node in nodes])
            self._embedder.record()
        return ids

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes of one source document; none is no error."""
        self._store.delete_where({"ref_doc_id": ref_doc_id})

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Deletes the nodes that have one of the ids and match the filters. ValueError if neither is given.

        `filter` in `delete_kwargs`: one of vecstone's over the document, which they must match, too.
        """
        selection = _selection(self._store, node_ids, self._translated(filters, delete_kwargs))
        if selection is None:
            raise ValueError("delete_nodes() needs node_ids or filters; clear() deletes all nodes")
        if isinstance(selection, dict):
            self._store.delete_where(selection)
        else:
            self._store.delete_many(selection)

    def clear(self) -> None:
        """Deletes all nodes."""
        self._store.clear()

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes that have one of the ids, in their order, and match the filters; without either, all.

        Ids that are not there are left out. The nodes carry their embeddings.
        """
        rows = self._store.snapshot()  # documents and vectors of one moment
        selection = _selection(rows, node_ids, self._translated(filters, {}))
        if selection is None:
            selection = list(rows)
        elif isinstance(selection, dict):
            selection = rows.ids_where(selection)
        there = [(id, document) for id, document in zip(selection, rows.get_documents(selection), strict=True)
                 if document is not None]
        nodes = [_to_node(id, document) for id, document in there]
        for node, vector in zip(nodes, rows.get_many([id for id, _ in there]), strict=True):
            node.embedding = vector.tolist()
        return nodes

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The min(similarity_top_k, matching nodes) nodes nearest to `query_embedding`, nearest first.

        `node_ids`, `doc_ids` and `filters` restrict the search and are all obeyed; empty ones, which LlamaIndex's
        own retriever sends for all nodes, restrict nothing. Similarities: `1 - distance` for
        cosine and ip, `1 / (1 + distance)` for l2 with the distance not squared. In mode MMR, nodes are chosen from
        the nearest `mmr_prefetch_k` (4 times top k unless given) by cosine, and `mmr_threshold` 1 looks at nearness
        only, 0 at difference only. In `kwargs`, LlamaIndex's `vector_store_kwargs`: `filter` and `recall_target`, as of
        `Store.search`. ValueError for other modes, or without an embedding.
        """
        if query.query_embedding is None:
            raise ValueError("query_embedding is missing: vecstone searches by vector")
        if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
            mode = getattr(query.mode, "value", query.mode)
            raise ValueError(f"vecstone has no query mode {mode!r}, only 'default' and 'mmr'")
        mmr = query.mode == VectorStoreQueryMode.MMR
        k = kwargs.get("mmr_prefetch_k", 4 * query.similarity_top_k) if mmr else query.similarity_top_k
        hits = list(
            self._store.search(
                query.query_embedding,
                k,
                filter=_selection(self._store, query.node_ids or None, self._restricted(query, kwargs)),
                recall_target=kwargs.get("recall_target"),
                with_vectors=mmr,
                with_documents=True,
            )
        )
        if mmr and hits:
            _, chosen = get_top_k_mmr_embeddings(
                query.query_embedding,
                [hit.vector.tolist() for hit in hits],
                similarity_fn=_cosine,
                similarity_top_k=query.similarity_top_k,
                mmr_threshold=kwargs.get("mmr_threshold", query.mmr_threshold),
            )
            hits = [hits[i] for i in chosen]
        return VectorStoreQueryResult(
            nodes=[_to_node(hit.id, hit.document) for hit in hits],
            similarities=[self._similarity(hit.distance) for hit in hits],
            ids=[hit.id for hit in hits],
        )

    def persist(self, persist_path: str = "", fs: Any = None) -> None:
        """Makes every write until now durable. The nodes stay in `path`; both arguments are ignored."""
        self._store.flush()

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """`add`, awaited."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """`delete`, awaited."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """`delete_nodes`, awaited."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """`clear`, awaited."""
        await asyncio.to_thread(self.clear)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """`get_nodes`, awaited."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query`, awaited."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _restricted(self, query: VectorStoreQuery, kwargs: dict[str, Any]) -> dict[str, Any]:
        filter = self._translated(query.filters, kwargs)
        return {"$and": [{"ref_doc_id": {"$in": query.doc_ids}}, filter]} if query.doc_ids else filter

    def _translated(self, filters: MetadataFilters | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The filters and that over the document as one of vecstone's."""
        self._dotted.look_at(self._store, _keys(filters))
        own, filter = kwargs.get("filter"), _translate(filters)
        if own is None:
            return filter
        if not isinstance(own, Mapping):
            raise TypeError(f"filter is a {type(own).__name__}; give a filter over the document, a dict")
        return {"$and": [dict(own), filter]} if filter else dict(own)

    def _similarity(self, distance: float) -> float:
        return 1 / (1 + math.sqrt(distance)) if self._store.metric == "l2" else 1 - float(distance)


def _selection(
    rows: vecstone.Store | vecstone.Snapshot, node_ids: list[str] | None, filter: dict[str, Any]
) -> dict[str, Any] | list[str] | None:
    """What vecstone takes as a filter: a dict, ids, or None for all rows."""
    if node_ids is None or not filter:
        return filter or None if node_ids is None else node_ids
    matching = set(rows.ids_where(filter))
    return [id for id in node_ids if id in matching]


_NODE_TYPES: dict[str, type[BaseNode]] = {
    cls.class_name(): cls for cls in (Document, ImageNode, IndexNode, Node, TextNode)
}


def _to_document(node: BaseNode) -> dict[str, Any]:
    # Not as pydantic would write it, which makes null of infinity.
    check_json(node.metadata, f"the metadata of node {node.node_id!r}")
    data = node.model_dump(mode="json", exclude={"embedding", "metadata"})
    return {
        "metadata": node.metadata,
        "ref_doc_id": node.ref_doc_id or "None",  # as every LlamaIndex store calls a node without a source
        "type": data.pop("class_name"),
        "node": data,
    }


def _to_node(id: Any, document: Any) -> BaseNode:
    try:
        cls = _NODE_TYPES.get(document["type"], TextNode)
        return cls.from_dict({**document["node"], "metadata": document["metadata"]})
    except (TypeError, KeyError) as error:
        raise ValueError(f"row {id!r} was not written by this class: its document is no node") from error


def _cosine(a: Any, b: Any) -> float:
    """LlamaIndex's own divides by zero for a vector of zeros, and then fails."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.dot(a, b)) / norms if norms else 0.0


# Names under which LlamaIndex lets filters see the id of the source document and the type of the node.
_KEYS = {"doc_id": "ref_doc_id", "document_id": "ref_doc_id", "ref_doc_id": "ref_doc_id", "_node_type": "type"}
_TEXT = {FilterOperator.TEXT_MATCH: "$text", FilterOperator.TEXT_MATCH_INSENSITIVE: "$itext"}
_SET = {
    FilterOperator.EQ: "$in",
    FilterOperator.IN: "$in",
    FilterOperator.NE: "$nin",
    FilterOperator.NIN: "$nin",
    FilterOperator.CONTAINS: "$any",
    FilterOperator.ANY: "$any",
}
_LISTS = {FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL}
_ORDER: dict[FilterOperator, tuple[str, Callable[[Any, Any], bool]]] = {
    FilterOperator.GT: ("$gt", operator.gt),
    FilterOperator.GTE: ("$gte", operator.ge),
    FilterOperator.LT: ("$lt", operator.lt),
    FilterOperator.LTE: ("$lte", operator.le),
}


def _keys(filters: MetadataFilters | None) -> list[str]:
    """The keys of metadata that they name."""
    parts = [] if filters is None else filters.filters
    return [key for part in parts for key in (_keys(part) if isinstance(part, MetadataFilters) else [part.key])]


def _translate(filters: MetadataFilters | None) -> dict[str, Any]:
    """LlamaIndex's filters as vecstone's over the documents; `{}` matches all."""
    if filters is None or not filters.filters:
        return {}
    parts = [
        _translate(part) if isinstance(part, MetadataFilters) else _translate_one(part) for part in filters.filters
    ]
    if filters.condition == FilterCondition.OR:
        return {"$or": parts}
    if filters.condition == FilterCondition.NOT:  # none of them
        return {"$not": {"$or": parts}}
    return {"$and": parts}


def _translate_one(filter: MetadataFilter) -> dict[str, Any]:
    key, op, value = _KEYS.get(filter.key, field(filter.key)), filter.operator, filter.value
    if op == FilterOperator.IS_EMPTY:
        return {key: {"$empty": True, "$ne": {}}}  # LlamaIndex leaves the empty dict out
    if value is None:
        raise ValueError(f"filter on {filter.key!r}: {op.value!r} needs a value; is_empty finds nodes without")
    if op in _TEXT:
        return {key: {_TEXT[op]: value}}
    if op in _ORDER:
        name, compare = _ORDER[op]
        flags = [flag for flag in (False, True) if isinstance(value, int | float) and compare(flag, value)]
        return {"$or": [{key: {name: value}}, {key: {"$in": flags}}]}
    if op in _LISTS and not isinstance(value, list):
        raise ValueError(f"filter on {filter.key!r}: {op.value!r} needs a list, not {value!r}")
    items: Any = value if op in _LISTS else [value]
    if op == FilterOperator.ALL:
        return {"$and": [{key: {"$any": _equal(item)}} for item in items] or [{key: {"$all": []}}]}
    return {key: {_SET[op]: [same for item in items for same in _equal(item)]}}


def _equal(value: Any) -> list[Any]:
    """What Python calls equal: LlamaIndex's filters cannot hold True and False, so 1 and 0 must find them."""
    return [value, bool(value)] if value in (0, 1) else [value]
