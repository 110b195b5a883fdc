"""The store: what is convenient in Python, on top of what `_core` does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, Sequence, ValuesView
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Never, NoReturn, overload

from . import _core, _given, _json  # noqa: F401  # what a call may need is there when no file can be opened
from ._views import Items, Values

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ._core import _Durability, _Filter, _Id, _Ids, _Vector


class Hit:
    """One result of a search. ``id, distance = hit`` works, too."""

    __slots__ = ("_document", "_vector", "distance", "id")

    id: Any
    """A str, int or uuid.UUID, as it was put."""
    distance: float

    def __init__(self, id: Any, distance: float, vector: Any = ..., document: Any = ...) -> None:
        self.id = id
        self.distance = distance
        self._vector = vector
        self._document = document

    @property
    def vector(self) -> _Vector:
        """float32 of shape (dim,). AttributeError, unless the search was told `with_vectors`."""
        vector: _Vector = self._asked("vector", self._vector)
        return vector

    @property
    def document(self) -> Any:
        """None where there is none. AttributeError, unless the search was told `with_documents`."""
        return self._asked("document", self._document)

    def _asked(self, name: str, value: Any) -> Any:
        if value is ...:
            raise AttributeError(f"the search was not asked for {name}s; give it with_{name}s=True")
        return value

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("document", "vector"):  # its property has said why
            self._asked(name, ...)
        known = {"score": "distance: smaller is nearer", "similarity": "distance: smaller is nearer", "metadata": "document",
                 "payload": "document", "text": "document", "embedding": "vector"}
        meant = f"; it has {known[name]}" if name in known else ""
        raise AttributeError(f"a Hit has no {name!r}{meant}")

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(f"a Hit has attributes and no {key!r}; write hit.id, hit.distance, hit.document, or id, distance = hit")

    def __iter__(self) -> Iterator[Any]:
        yield self.id
        yield self.distance

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hit) and (self.id, self.distance) == (other.id, other.distance)

    def __hash__(self) -> int:
        return hash((self.id, self.distance))

    def __reduce__(self) -> tuple[Any, ...]:
        return Hit, (self.id, self.distance, self._vector, self._document)

    def __repr__(self) -> str:
        return f"Hit(id={self.id!r}, distance={self.distance:.6g})"


class Hits(Sequence[Hit]):
    """The results of one search, nearest first.

    `ids` is a list, `distances` float32 of shape (n,). `exact` tells whether the answer is that of a scan of all rows,
    `rows_read` how many vectors were read for it. `explain`, if the search was told `explain`, is a dict: `path` is "scan"
    (every row that the filter selects was read), "codes", "approximate" or "codes_then_scan"; `why_exact`, where the
    search was asked for a recall below 1 and is exact, is "radius", "recall" (above 0.99), "no_codes" or "not_measured"
    (`optimize` does), else None; `rows_scanned`, `codes_scanned` (looked at by code), `rows_refined` (measured by the
    reference), `partitions_visited`, `partitions_skipped`; `seconds`, a dict of the stages select, rank, scan, refine and
    fetch, and `queries`, how many share these seconds. Else it is None.
    """

    __slots__ = ("_documents", "_vectors", "distances", "exact", "explain", "ids", "rows_read")

    ids: list[Any]
    distances: npt.NDArray[np.float32]
    exact: bool
    rows_read: int
    explain: dict[str, Any] | None
    _vectors: list[_Vector] | None
    _documents: list[Any] | None

    def __init__(self, found: tuple[Any, ...]) -> None:
        self.ids, self.distances, self.exact, self.rows_read, self._vectors, self._documents, self.explain = found

    def _hit(self, at: int) -> Hit:
        vector: Any = ... if self._vectors is None else self._vectors[at]
        document: Any = ... if self._documents is None else self._documents[at]
        return Hit(self.ids[at], float(self.distances[at]), vector, document)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> list[Hit]: ...
    def __getitem__(self, at: int | slice) -> Hit | list[Hit]:
        if isinstance(at, slice):
            return [self._hit(n) for n in range(*at.indices(len(self.ids)))]
        if isinstance(at, str):
            raise TypeError(f"Hits are a list of Hit, and have no {at!r}; write hits.ids, hits.distances, or hit.document of each")
        return self._hit(at)

    def __getattr__(self, name: str) -> Any:
        meant = {"documents": "[hit.document for hit in hits]", "vectors": "[hit.vector for hit in hits]",
                 "metadatas": "[hit.document for hit in hits]", "scores": "hits.distances: smaller is nearer"}.get(name)
        raise AttributeError(f"Hits have no {name!r}" + (f"; write {meant}" if meant else ""), name=name, obj=self)

    def __repr__(self) -> str:
        return f"Hits({list(self)!r})"


class Neighbors(tuple["npt.NDArray[Any]", "npt.NDArray[np.float32]"]):
    """The results of `search_many`, one line for each query, nearest first. ``ids, distances = neighbors`` works, too."""

    exact: npt.NDArray[np.bool_]
    """As `Hits.exact` of each query, of shape (n,)."""
    rows_read: npt.NDArray[np.int64]
    """As `Hits.rows_read` of each query, of shape (n,)."""
    explain: list[dict[str, Any]] | None
    """As `Hits.explain` of each query, if the search was told `explain`; all queries share the seconds."""
    documents: list[list[Any]] | None
    """n lists of k, if the search was told `with_documents`; None where there is none."""

    def __new__(cls, ids: npt.NDArray[Any], distances: npt.NDArray[np.float32], exact: npt.NDArray[np.bool_],
                rows_read: npt.NDArray[np.int64], explain: list[dict[str, Any]] | None = None,
                documents: list[list[Any]] | None = None) -> Neighbors:
        self = super().__new__(cls, (ids, distances))
        self.exact, self.rows_read, self.explain, self.documents = exact, rows_read, explain, documents
        return self

    @property
    def ids(self) -> npt.NDArray[Any]:
        """Shape (n, k), uint64 for ids of kind int, else object. Where there are fewer than k results, the rest of a line is
        None (2**64 - 1 for int)."""
        return self[0]

    @property
    def distances(self) -> npt.NDArray[np.float32]:
        """Shape (n, k). Where there are fewer than k results, the rest of a line is infinity."""
        return self[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return Neighbors, (*self, self.exact, self.rows_read, self.explain, self.documents)

    def __repr__(self) -> str:
        return f"Neighbors(ids={self.ids!r}, distances={self.distances!r})"


_MEANT = {**dict.fromkeys(("limit", "n", "top_k", "topk", "n_results", "num_results", "top", "size", "K"), "k"),
          **dict.fromkeys(("where", "where_document", "filters", "query_filter", "predicate"), "filter"),
          **dict.fromkeys(("max_distance", "threshold", "distance_threshold", "score_threshold"), "radius"),
          **dict.fromkeys(("include", "with_payload", "with_document", "include_metadata", "documents"), "with_documents"),
          **dict.fromkeys(("with_vector", "include_vectors", "include_values", "vectors"), "with_vectors"),
          **dict.fromkeys(("ef", "ef_search", "nprobe", "num_candidates", "recall"), "recall_target"),
          **dict.fromkeys(("vector", "embedding", "query_vector", "query_embeddings", "queries"), "query")}
"""What other stores call the arguments of a search."""


def _refuse(call: str, unknown: Mapping[str, Any]) -> None:
    """TypeError for arguments that a search does not have."""
    for name in unknown:
        word = _MEANT.get(name)
        if call == "search_many":
            word = {"query": "queries", "with_vectors": None}.get(word or "", word)
        meant = f"; {word}= is what it takes" if word else ""
        raise TypeError(f"{call}() has no argument {name!r}{meant}")


def _check_numbers(radius: Any, recall_target: Any, **flags: Any) -> None:
    """TypeError for what is no number, or neither True nor False."""
    for name, given in (("radius", radius), ("recall_target", recall_target)):
        if isinstance(given, (str, bytes)) or not (given is None or hasattr(given, "__float__") or hasattr(given, "__index__")):
            raise TypeError(f"{name} is {given!r}; give a number")
    for name, given in flags.items():
        if not (isinstance(given, bool) or type(given).__name__ in ("bool", "bool_") or (name == "exact" and given is None)):
            raise TypeError(f"{name} is {given!r}; give True or False")


def _check_radius(radius: Any, metric: str) -> None:
    """ValueError for one that no row can be within."""
    if isinstance(radius, (int, float)) and radius < 0 and metric != "ip":
        raise ValueError(f"radius is {radius}, and no {metric} distance is below 0; leave it out to search without one")


class _Reading:
    """What a store and a snapshot of it have in common."""

    __slots__ = ()

    def search(self, query: npt.ArrayLike, k: int = 10, *, filter: _Filter | None = None, radius: float | None = None,
               exact: bool | None = None, recall_target: float | None = None, with_vectors: bool = False,
               with_documents: bool = False, explain: bool = False, **unknown: Never) -> Hits:
        """The k rows nearest to a query, nearest first; of two at the same distance the older first.

        `query`: shape (dim,) or (1, dim). Distances are "cosine" 1 - cos, "ip" 1 - dot, "l2" the sum of squares:
        smaller is nearer. `filter`: a collection of ids, or a dict over the documents, as in {"lang": "en"},
        {"year": {"$gte": 2020}}, {"$or": [{"a.b": 1}, {"tags": {"$contains": "x"}}]}; the operators are $eq $ne $gt $gte
        $lt $lte $in $nin $any $all $contains $text $itext (part of a text, with or without case) $exists $empty, and
        $and $or $not. A dotted key walks through objects. A backslash takes its meaning from a dot, from a $ at the
        beginning of a key and from another backslash: {r"file\\.name": "x"} is about the key "file.name". There are
        always min(k, matches) results. `radius`: only rows at this distance or nearer. `with_vectors`,
        `with_documents`: fill `Hit.vector` and `Hit.document`. `explain`: fill `Hits.explain`.

        Exact, at every size, unless told otherwise: `recall_target`, above 0 and at most 1, is the share of the k nearest
        rows that the answer is to have on average, for queries like the rows; `exact=False` alone means that of `open`, else
        0.95. Without codes, with a radius, and above 0.99, such a search is exact; `Hits.exact` says which it was.

        O(rows * dim) on all cores. ValueError: shape, NaN, a filter that is none, a radius below 0 (but with "ip"), a `recall_target` out of range or below 1
        with `exact=True`; CorruptError: a result is damaged.
        """
        _refuse("search", unknown)
        _check_numbers(radius, recall_target, exact=exact, with_vectors=with_vectors, with_documents=with_documents,
                       explain=explain)
        _check_radius(radius, self.metric)  # type: ignore[attr-defined]
        precision, gives = (radius, exact, recall_target), (with_vectors, with_documents, explain)
        return Hits(self._search(query, k, filter, precision, gives))  # type: ignore[attr-defined]

    def search_many(self, queries: npt.ArrayLike, k: int = 10, *, filter: _Filter | None = None,
                    radius: float | None = None, exact: bool | None = None, recall_target: float | None = None,
                    with_documents: bool = False, explain: bool = False, **unknown: Never) -> Neighbors:
        """The same for n queries of shape (n, dim), faster than n searches: ids and distances of shape (n, k)."""
        _refuse("search_many", unknown)
        _check_numbers(radius, recall_target, exact=exact, with_documents=with_documents, explain=explain)
        _check_radius(radius, self.metric)  # type: ignore[attr-defined]
        precision, gives = (radius, exact, recall_target), (False, with_documents, explain)
        return Neighbors(*self._search_many(queries, k, filter, precision, gives))  # type: ignore[attr-defined]

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The store's attributes, as `Store.set_attrs` was given them: a copy that cannot be written to; empty without."""
        text = self._attrs()  # type: ignore[attr-defined]
        return MappingProxyType(json.loads(text) if text else {})

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`: `id`, `vector` (fixed-size lists of float32), `document` (JSON text). Needs pyarrow.

        Whatever reads the Arrow PyCapsule interface takes the store itself, batch by batch, as `pyarrow.table(store)` does.
        """
        import pyarrow

        reader = pyarrow.RecordBatchReader.from_stream(self)
        return pyarrow.Table.from_batches(list(reader), reader.schema)  # batch by batch, so that Ctrl-C is heard

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with the columns of `to_arrow`. Needs pandas and pyarrow."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """A `polars.DataFrame` with the columns of `to_arrow`. Needs polars."""
        import polars

        return polars.DataFrame(_Stream(self))


_CALLS = {"put_many(ids, vectors, documents)": ("add", "add_many", "insert", "insert_many", "upsert", "add_items", "add_vectors"),
          "search(query, k)": ("query", "knn", "knn_query", "similarity_search", "find", "nearest"),
          "len(store)": ("count", "size", "num_rows", "ntotal"), "flush()": ("commit", "save", "persist", "sync"),
          "del store[id] or delete_many(ids)": ("remove", "remove_many"), "clear()": ("reset", "drop", "truncate", "delete_all"),
          "get_many(ids)": ("fetch", "retrieve", "get_vectors"), "stats()": ("info", "describe")}
"""What other stores call the methods of a store."""


class _Stream:
    """The Arrow stream alone: polars takes a mapping for columns."""

    def __init__(self, source: Any) -> None:
        self.__arrow_c_stream__ = source.__arrow_c_stream__


class Store(_Reading, _core.Store, MutableMapping[Any, Any]):
    """An open store: a mapping of ids to vectors, in the order of writing, with documents and search. Made by `open`.

    Any number of threads may use it. A handle that was pickled opens the store read-only, at its latest durable state;
    in a forked child it reads what was flushed before the fork.
    """

    __slots__ = ("__weakref__",)

    def __eq__(self, other: object) -> bool:
        return True if self is other else NotImplemented  # comparing vectors would read them all

    def __hash__(self) -> int:
        return object.__hash__(self)

    def keys(self) -> KeysView[Any]:
        """The ids, in the order of writing."""
        return KeysView(self)

    def items(self) -> ItemsView[Any, _Vector]:
        """Ids with vectors, in the order of writing, as they are when the iteration begins."""
        return Items(self)

    def values(self) -> ValuesView[_Vector]:
        """The vectors, in the order of writing, as they are when the iteration begins."""
        return Values(self)

    def popitem(self) -> tuple[Any, _Vector]:
        """Removes the oldest row and returns its id and vector."""
        for id, vector in self.items():
            del self[id]
            return id, vector
        raise KeyError("popitem(): the store is empty")

    def snapshot(self) -> Snapshot:
        """The store as it is now, for as long as you keep it."""
        return Snapshot(self)

    async def flush_async(self) -> None:
        """As `flush`, for asyncio: other tasks go on meanwhile."""
        import asyncio  # slow to import, and there already where this is called

        await asyncio.to_thread(self.flush)

    async def aput_document(self, id: _Id, document: Any, *, durability: _Durability | None = None) -> None:
        """As `put_document`, for asyncio."""
        import asyncio

        await asyncio.to_thread(self.put_document, id, document, durability=durability)

    async def aput_documents(self, ids: _Ids, documents: Iterable[Any], *, durability: _Durability | None = None) -> None:
        """As `put_documents`, for asyncio."""
        import asyncio

        await asyncio.to_thread(self.put_documents, ids, documents, durability=durability)

    async def aupdate_documents(
        self, ids: _Ids, documents: Iterable[Any], *, durability: _Durability | None = None
    ) -> None:
        """As `update_documents`, for asyncio."""
        import asyncio

        await asyncio.to_thread(self.update_documents, ids, documents, durability=durability)

    def stats(self) -> dict[str, Any]:
        """Rows, bytes on the disk and bytes in memory: the object of `vecstone info --json`."""
        found: dict[str, Any] = json.loads(self._stats())
        return found

    def tune(self, queries: npt.ArrayLike,
             progress: Callable[[int, int], object] | None = None) -> dict[str, Any] | None:
        """Measures how many rows an approximate search has to look at, with your own queries, shape (n, dim).

        `optimize` measures that with rows of the store; where queries are not like the rows (questions about texts, say),
        `recall_target` holds for queries like these after this call. Some hundreds are good, 32 the least; each costs an
        exact search. It does what `optimize` does first, with its `progress` and its errors. What was measured stays until
        the next call; where the store has grown since, searches look at more rows. The queries are not kept.

        A dict, the `effort` of `stats()`: the live `rows` and the number of `queries` it was measured with, when (`measured`,
        seconds since 1970), and what was `looked` at for each `k` and `recall`. None where there are no codes, so that every
        search is exact. ValueError: fewer than 32 queries, or of another dim, or not finite.
        """
        measured = self._tune(queries, progress)
        found: dict[str, Any] | None = None if measured is None else json.loads(measured)
        return found

    def __enter__(self) -> Store:
        if self.closed:
            raise ValueError("the store is closed; open it again")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.closed:
            raise ValueError("the store is closed; open it again")
        if self.mode != "r":
            try:
                self.flush()
            except _core.ForkedError:
                pass  # a child has written nothing
        # A store that is still to be made may be there when the handle is opened again, or not.
        metric = self.metric if self._pending else None
        return _reopen, (os.fspath(self.path), self._threads, metric, self._recall_target)

    def __getattr__(self, name: str) -> Any:
        """Says what to call where another store has a method of that name."""
        meant = next((call for call, names in _CALLS.items() if name in names), None)
        advice = f"; {meant} does that" if meant else ""
        raise AttributeError(f"a Store has no {name!r}{advice}", name=name, obj=self)

    def __repr__(self) -> str:
        path = os.fspath(self.path)
        if self.closed:
            return f"<vecstone.Store {path!r} closed>"
        return (f"<vecstone.Store {path!r} rows={len(self)} dim={self.dim} metric={self.metric!r} "
                f"ids={self.id_kind} mode={self.mode!r}>")

    def _repr_html_(self) -> str:
        from html import escape

        name = escape(os.path.basename(os.fspath(self.path)))
        if self.closed:
            return f"<b>vecstone</b> {name} (closed)"
        stats = self.stats()
        cells = {
            "rows": f"{len(self):,}",
            **({"buffered": f"{stats['buffered']:,}"} if stats["buffered"] else {}),
            "dim": stats["dim"],
            "metric": stats["metric"],
            "ids": self.id_kind or "not fixed yet",
            "on disk": _human(stats["bytes"]["total"]),
            **({} if stats["buffered"] or not stats["rows"] else {"overhead": f"{stats['overhead']:.4f}"}),
            "memory": _human(stats["memory"]["heap"]),
        }
        head = "".join(f"<th>{escape(key)}</th>" for key in cells)
        row = "".join(f"<td>{escape(str(value))}</td>" for value in cells.values())
        return f"<b>vecstone</b> {name}<table><tr>{head}</tr><tr>{row}</tr></table>"


def _human(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _reopen(path: str, threads: int | None = None, metric: str | None = None,
            recall_target: float | None = None) -> Store:
    return Store(path, mode="r", threads=threads, recall_target=recall_target, _metric_if_missing=metric)


def open(path: str | os.PathLike[str], *, dim: int | None = None, metric: Literal["cosine", "l2", "ip"] | None = None,
         mode: Literal["r", "r+", "a", "x"] = "a",
         durability: Literal["buffered", "sync"] = "buffered", flush_interval: float = 0.1, buffer_bytes: int = 64 << 20,
         threads: int | None = None, lock_timeout: float = 0.0, recall_target: float | None = None,
         auto_optimize_rows: int | None = None) -> Store:
    """Opens a store, or makes one.

    `mode`: "a" makes it if it is not there; "x" makes it, and it must not be there; "r+" opens it, "r" read-only, and it
    must be there. There is no "w": `clear` empties a store. `dim`: components of a vector; None is what the store has.
    `metric`: "cosine", "l2" (squared) or "ip"; None is what the store has, cosine for a new one.

    A new store is made at once where `dim` is given. Else the first vector tells it: until then nothing is written, the
    store is empty, and what was asked for here is kept in the handle. The first write makes the store; where one was made
    there meanwhile it opens that one, or raises what opening it would raise (with "x" FileExistsError), and stores nothing
    then.

    `durability`: when a write returns that does not say otherwise: "buffered", when it is accepted (flushed in the
    background within `flush_interval` seconds), or "sync", when it is durable. `buffer_bytes`: accepted and not yet
    written, at most; a full buffer makes writers wait. `threads`: for a search, at most; None is VECSTONE_THREADS, or
    all cores. `lock_timeout`: seconds to wait for another process that writes the store. `recall_target`: of searches of this
    handle that do not say otherwise (see `search`); None is 1, exact.

    `auto_optimize_rows`: from how many rows without codes the background makes codes for them, which make search faster; 0
    never does and leaves it to `optimize`. It is kept in the store; None is what the store has, 20,000 for a new one.

    One process writes a store, any number read it meanwhile (`refresh` moves them on). Opening what this process writes
    already gives another handle of it.

    FileNotFoundError, FileExistsError, PermissionError; ValueError: `dim`, `metric` or an option contradicts the store, or
    `recall_target` is out of range;
    LockedError: another process writes it; NotAStoreError; CorruptError: something durable is damaged, nothing was
    changed.
    """
    return Store(path, dim=dim, metric=metric, mode=mode, durability=durability, flush_interval=flush_interval,
                 buffer_bytes=buffer_bytes, threads=threads, lock_timeout=lock_timeout, recall_target=recall_target,
                 auto_optimize_rows=auto_optimize_rows)


class Snapshot(_Reading, _core.Snapshot, Mapping[Any, Any]):
    """A store at one moment: reads like a `Store`, never changes, and outlives its closing. Made by `Store.snapshot`."""

    __slots__ = ("__weakref__",)

    def __eq__(self, other: object) -> bool:
        return True if self is other else NotImplemented  # comparing vectors would read them all

    def __hash__(self) -> int:
        return object.__hash__(self)

    def keys(self) -> KeysView[Any]:
        """The ids, in the order of writing."""
        return KeysView(self)

    def items(self) -> ItemsView[Any, _Vector]:
        """Ids with vectors, in the order of writing."""
        return Items(self)

    def values(self) -> ValuesView[_Vector]:
        """The vectors, in the order of writing."""
        return Values(self)

    def __repr__(self) -> str:
        return f"<vecstone.Snapshot rows={len(self)} dim={self.dim} metric={self.metric!r} ids={self.id_kind}>"
