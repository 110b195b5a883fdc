import os
import pathlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, final
from typing_extensions import Self, disjoint_base
import numpy as np
import numpy.typing as npt
_Id: TypeAlias = str | int | uuid.UUID | np.integer[Any]
_Ids: TypeAlias = Iterable[_Id] | npt.NDArray[np.integer[Any]]
_Filter: TypeAlias = Mapping[str, Any] | Iterable[_Id]
_Durability: TypeAlias = Literal['buffered', 'sync']
_Vector: TypeAlias = npt.NDArray[np.float32]
_T = TypeVar('_T')
__version__: str

class Error(Exception):
    """What Python has no word for; the base of the others here."""
    ...

class LockedError(Error):
    """Another process writes the store; `pid` is its process, if known."""
    pid: int | None

class CorruptError(Error):
    """Stored bytes are damaged: `path`, `offset`. Nothing was changed."""
    path: str
    offset: int

class NotAStoreError(Error):
    """What is at that path is not a store."""
    ...

class UnsupportedError(Error):
    """Written by a newer release."""
    ...

class ReadOnlyError(Error):
    """The store is open read-only."""
    ...

class ForkedError(Error):
    """This process is a fork of the one that opened the store."""
    ...

class WritingStoppedError(Error):
    """A write or sync failed before; open the store again. `errno` is what the system said then, if it did."""
    errno: int | None

class StoreMovedError(WritingStoppedError):
    """The open store was moved, replaced or removed, or its LOCK was; nothing was done to what stands at its path."""
    ...

class CancelledError(Error):
    """Broken off as asked; nothing was changed."""
    ...

@final
class NoDocument:
    """What `vecstone.NO_DOCUMENT` is: in the place of a document it says that there is none from then on."""
    ...
NO_DOCUMENT: NoDocument

@disjoint_base
class Store:
    """A handle of a store."""

    def __new__(cls, path: str | os.PathLike[str], *, dim: int | None=None, metric: Literal['cosine', 'l2', 'ip'] | None=None, mode: Literal['r', 'r+', 'a', 'x']='a', durability: _Durability='buffered', flush_interval: float=0.1, buffer_bytes: int=..., threads: int | None=None, lock_timeout: float=0.0, recall_target: float | None=None, auto_optimize_rows: int | None=None, _metric_if_missing: str | None=None) -> Self:
        ...

    def put(self, id: _Id, vector: npt.ArrayLike, document: Any=None, *, durability: _Durability | None=None) -> None:
        """Stores a vector under an id, or replaces the vector of a stored id.

`vector`: shape (dim,), any real dtype, rounded to float32; NaN and infinity are refused. `document`: any JSON value.
None keeps the document that is stored, `vecstone.NO_DOCUMENT` removes it. Keys that are int, float, bool or None
become strings, as `json.dumps` has it.
`durability`: "buffered" returns when the write is accepted (this handle sees it at once, the background flushes it),
"sync" when it survives a power cut; None is what `open` was told.

ValueError: shape, NaN, an id of 0 or above 65,536 bytes, two keys of a document that become the same string, a closed
store. TypeError: an id of another kind than the store's, a document that is no JSON. ReadOnlyError, OSError (no
space, I/O), WritingStoppedError."""
        ...

    def put_many(self, ids: _Ids, vectors: npt.ArrayLike, documents: Iterable[Any] | None=None, *, durability: _Durability | None=None) -> None:
        """Stores a batch: all of it or nothing, of an id that comes twice the last row.

`ids`: n of str, int (0 to 2**64 - 2, numpy integers too) or uuid.UUID, all of one kind. `vectors`: array or nested list
of shape (n, dim), any real dtype, byte order and strides. An array is copied and rounded a mebibyte at a time, so
memory stays small; a list, and a long double, becomes an array as a whole first. `documents`: n JSON values; None
keeps the document that is stored, `vecstone.NO_DOCUMENT` removes it. Everything is checked before the first byte is written. Up to 1 GiB of vectors and 4,194,304
rows are one batch; more become consecutive ones. Errors as of `put`."""
        ...

    def put_document(self, id: _Id, document: Any, *, durability: _Durability | None=None) -> None:
        """Replaces the document of an id, and not its vector; None or `vecstone.NO_DOCUMENT` removes it.

KeyError: the id is not there. Else errors as of `put`."""
        ...

    def put_documents(self, ids: _Ids, documents: Iterable[Any], *, durability: _Durability | None=None) -> None:
        """Replaces the documents of n ids, and not their vectors: one batch, all of it or nothing.

`documents`: n JSON values; None keeps what is stored, `vecstone.NO_DOCUMENT` removes it. Of an id that comes twice
the last one counts. KeyError: with all ids that are not there. Else errors as of `put`."""
        ...

    def update_documents(self, ids: _Ids, documents: Iterable[Any], *, durability: _Durability | None=None) -> None:
        """Merges JSON objects into the documents of n ids, as RFC 7396 says: one batch, all of it or nothing.

Members that are given take the place of those stored, None as the value of a member removes it, objects are merged
in turn, anything else is replaced as a whole. An id without a document has an empty object. `documents`: n JSON
values; None keeps what is stored, `vecstone.NO_DOCUMENT` removes it. KeyError: with all ids that are not there.
ValueError: a stored document that is no object. Else errors as of `put`."""
        ...

    def delete(self, id: _Id) -> bool:
        """Deletes an id; False if it was not there."""
        ...

    def delete_many(self, ids: _Ids) -> int:
        """Deletes several ids in one batch; returns how many were there."""
        ...

    def delete_where(self, filter: _Filter, *, durability: _Durability | None=None) -> int:
        """Deletes the rows that a filter matches (see `search`); returns how many.

TypeError: the filter is a collection of ids of another kind than the store's."""
        ...

    def clear(self) -> None:
        """Deletes everything, durably and at once. `dim` and `metric` stay. Snapshots keep what they show."""
        ...

    def set_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Puts a dict in the place of the store's attributes (`attrs`), durably, with everything written before; {}
removes them.

They describe the store as a whole and stay through `clear`, `compact`, `backup` and repair. `attrs`: a dict of JSON
values, as documents are, of at most 983,040 bytes as JSON text. TypeError: no dict, or a value that is no JSON.
ValueError: NaN, too long, two keys that become the same string, or a store that its first vector is still to make
(give `open` a `dim`). ReadOnlyError; else errors as of `flush`."""
        ...

    def flush(self) -> None:
        """Returns when everything written before is durable.

OSError: no space (`errno` says which; nothing is lost yet: free some and flush again), a failed write or sync."""
        ...

    def get(self, id: _Id, default: _T | None=None) -> _Vector | _T | None:
        """The vector of an id, float32 of shape (dim,), a copy that may be written to; `default` if the id is not there.

Its checksum is checked: CorruptError, never wrong numbers. TypeError for an id of another kind than the store's."""
        ...

    def get_many(self, ids: _Ids, missing: Literal['raise', 'nan']='raise') -> _Vector:
        """The vectors of n ids, float32 of shape (n, dim), row by row those of `ids`.

`missing`: "raise" raises KeyError for the first id that is not there, "nan" gives a row of NaN for each."""
        ...

    def get_document(self, id: _Id, default: Any=None) -> Any:
        """The document of an id; `default` if the id or its document is not there."""
        ...

    def get_documents(self, ids: _Ids) -> list[Any]:
        """The documents of n ids: a list of n, None where there is none."""
        ...

    def ids_where(self, filter: _Filter) -> list[Any]:
        """The ids whose rows a filter matches (see `search`), in the order of writing.

TypeError: the filter is a collection of ids of another kind than the store's."""
        ...

    def arrays(self) -> list[Segment]:
        """The committed rows of each segment, oldest first, as numpy views of the mapped files: see `Segment`.

Flushes first, if the store is open for writing. The views stay as they are after `close()` and through compaction."""
        ...

    def refresh(self) -> bool:
        """Moves a read-only handle on to what is durable now; True if it shows anything else than before.

Where another store stands at the path by now (made anew, moved there, restored from a backup), it opens that one:
`dim`, `metric` and `id_kind` are that one's from then on. Snapshots, iterators and arrays stay as they are.
FileNotFoundError, NotAStoreError, CorruptError: the handle goes on showing what it showed."""
        ...

    def verify(self) -> dict[str, Any]:
        """Checks every byte that counts. O(bytes).

A dict: `ok`; `bytes` checked; `tail_bytes` behind the last batch that counts (a write under way, or cut short by a
crash: no damage); `damage`, a list of dicts with `path`, `offset`, `id` (or None), `what` and `consequence`;
`unlisted`, how many more damaged places there are than the 100,000 that it has at most."""
        ...

    def compact(self, progress: Callable[[int, int], object] | None=None, *, min_dead: float=0.01) -> dict[str, int]:
        """Rewrites segments without their dead rows, while reads and writes go on; the background does so by itself where more
than a fifth of a segment's rows are dead.

`min_dead`: the share of dead rows from which on a segment is rewritten; 0 rewrites each one that has a dead row.
Small neighbours are merged, and segments without live rows go, in any case. `progress(done, total)`, in rows, is
called after each few megabytes; an exception of it breaks the compaction off, and is raised: segments that were
done by then stay compacted. A dict: `segments` rewritten, `rows_dropped`, `bytes_freed`, and what is left:
`rows_left` dead rows in `segments_left`, of each a share below `min_dead`, or rows that died meanwhile.
ValueError: `min_dead` is not 0 to 1. Else errors as of `flush`."""
        ...

    def optimize(self, progress: Callable[[int, int], object] | None=None) -> dict[str, int]:
        """Builds every side file that makes the store faster, up to the rows that are durable now: it flushes first. Right
answers never need it, and the background builds the same later. It neither seals nor compacts.

`progress(done, total)`, in rows of the files that are to be built, is called before each file, now and then within,
and at the end; an exception of it breaks the work off, and is raised: files that were whole by then stay. A dict:
`rows_covered`, rows that codes cover now, of `rows`; `bytes` of all side files now. CorruptError: a segment is
damaged; the files of the others were built. Else errors as of `flush`."""
        ...

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copies the store as it is now to a new directory, which is a store of its own, durable when this returns.

FileExistsError if anything is there; FileNotFoundError if nothing was ever written to this store: there is none."""
        ...

    def close(self) -> None:
        """Flushes and closes this handle; the last one of a process closes the store. A second call does nothing.

Errors as of `flush`. Views of `arrays()` stay valid."""
        ...

    @property
    def closed(self) -> bool:
        """Whether this handle is closed."""
        ...

    @property
    def mode(self) -> str:
        """As it was opened: "r", "r+", "a" or "x"."""
        ...

    @property
    def path(self) -> pathlib.Path:
        """The directory, absolute."""
        ...

    @property
    def dim(self) -> int | None:
        """Components of a vector; None before the first write to a store that is still to be made."""
        ...

    @property
    def metric(self) -> str:
        """"cosine", "l2" or "ip"."""
        ...

    @property
    def id_kind(self) -> str | None:
        """"string", "u64" or "uuid"; None before the first write."""
        ...

    def __getitem__(self, id: _Id, /) -> _Vector:
        ...

    def __setitem__(self, id: _Id, vector: npt.ArrayLike, /) -> None:
        ...

    def __delitem__(self, id: _Id, /) -> None:
        ...

    def __contains__(self, id: object, /) -> bool:
        ...

    def __len__(self) -> int:
        ...

    def __bool__(self) -> bool:
        ...

    def __iter__(self) -> Iterator[Any]:
        ...

    def __arrow_c_stream__(self, requested_schema: object=None) -> Any:
        ...

    def _search(self, query: Any, k: int, filter: Any, precision: tuple[float | None, bool | None, float | None], gives: tuple[bool, bool, bool]) -> tuple[Any, ...]:
        ...

    def _search_many(self, queries: Any, k: int, filter: Any, precision: tuple[float | None, bool | None, float | None], gives: tuple[bool, bool, bool]) -> tuple[Any, ...]:
        ...

    def _rows(self, with_ids: bool) -> Iterator[Any]:
        ...

    def _put_lines(self, ids: Any, vectors: Any, lines: Sequence[str | NoDocument | None] | None, durability: str | None) -> None:
        ...

    def _unchanged(self, ids: Any, vectors: Any, lines: Sequence[str | NoDocument | None] | None) -> npt.NDArray[np.bool_]:
        ...

    def _set_embed_name(self, name: str | None) -> bool:
        ...

    @property
    def embed_name(self) -> str | None:
        """The name of what made the vectors (see `ingest`); None without."""

    def _attrs(self) -> str | None:
        ...

    def _stats(self) -> str:
        ...

    def _tune(self, queries: npt.ArrayLike, progress: Callable[[int, int], object] | None) -> str | None:
        ...

    @property
    def _pending(self) -> bool:
        ...

    @property
    def _threads(self) -> int | None:
        ...

    @property
    def _recall_target(self) -> float:
        ...

@disjoint_base
class Snapshot:
    """An unchanging view of a store."""

    def __new__(cls, store: Store) -> Self:
        ...

    def get(self, id: _Id, default: _T | None=None) -> _Vector | _T | None:
        """The vector of an id, float32 of shape (dim,), a copy that may be written to; `default` if the id is not there.

Its checksum is checked: CorruptError, never wrong numbers. TypeError for an id of another kind than the store's."""
        ...

    def get_many(self, ids: _Ids, missing: Literal['raise', 'nan']='raise') -> _Vector:
        """The vectors of n ids, float32 of shape (n, dim), row by row those of `ids`.

`missing`: "raise" raises KeyError for the first id that is not there, "nan" gives a row of NaN for each."""
        ...

    def get_document(self, id: _Id, default: Any=None) -> Any:
        """The document of an id; `default` if the id or its document is not there."""
        ...

    def get_documents(self, ids: _Ids) -> list[Any]:
        """The documents of n ids: a list of n, None where there is none."""
        ...

    def ids_where(self, filter: _Filter) -> list[Any]:
        """The ids whose rows a filter matches (see `search`), in the order of writing.

TypeError: the filter is a collection of ids of another kind than the store's."""
        ...

    def arrays(self) -> list[Segment]:
        """The committed rows of each segment, oldest first, as numpy views of the mapped files: see `Segment`.

What was only buffered is in none of them. The views stay as they are after `close()` and through compaction."""
        ...

    @property
    def dim(self) -> int | None:
        """Components of a vector; None before the first write to a store that is still to be made."""
        ...

    @property
    def metric(self) -> str:
        """"cosine", "l2" or "ip"."""
        ...

    @property
    def id_kind(self) -> str | None:
        """"string", "u64" or "uuid"; None before the first write."""
        ...

    def __getitem__(self, id: _Id, /) -> _Vector:
        ...

    def __contains__(self, id: object, /) -> bool:
        ...

    def __len__(self) -> int:
        ...

    def __bool__(self) -> bool:
        ...

    def __iter__(self) -> Iterator[Any]:
        ...

    def __arrow_c_stream__(self, requested_schema: object=None) -> Any:
        ...

    def _search(self, query: Any, k: int, filter: Any, precision: tuple[float | None, bool | None, float | None], gives: tuple[bool, bool, bool]) -> tuple[Any, ...]:
        ...

    def _search_many(self, queries: Any, k: int, filter: Any, precision: tuple[float | None, bool | None, float | None], gives: tuple[bool, bool, bool]) -> tuple[Any, ...]:
        ...

    def _attrs(self) -> str | None:
        ...

    def _rows(self, with_ids: bool) -> Iterator[Any]:
        ...

@final
class Segment:
    """The committed rows of one segment. `numpy.asarray` of it is a read-only view of the mapped file, which lives as long as
any view of it: after `close()`, and through compaction. A view keeps its mapping and nothing else; this object, which
makes `live` and `ids` on demand, keeps the files of its segment open."""

    @property
    def number(self) -> int:
        """Number of the segment, as in the names of its files."""
        ...

    @property
    def vectors(self) -> _Vector:
        """The rows, float32 of shape (rows, dim), read-only and not copied; dead rows are among them."""
        ...

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        """For each row whether it is live: bool of shape (rows,), made by this call."""
        ...

    @property
    def ids(self) -> list[Any]:
        """The ids of all rows, dead ones included, in order: a list made by this call."""
        ...

    def __array__(self, dtype: Any=None, copy: bool | None=None) -> npt.NDArray[Any]:
        ...

    def __len__(self) -> int:
        ...

@final
class RowIter(Iterator[Any]):
    """An iterator over ids, vectors or both."""

    def __iter__(self) -> RowIter:
        ...

    def __next__(self) -> Any:
        ...

@final
class Rows(Iterator[tuple[Any, ...]]):
    """Rows of a file (Parquet, Arrow IPC, JSON lines), or of anything that has `__arrow_c_stream__`: an iterator of tuples
(ids, vectors or None, documents as JSON or None, texts or None)."""
    total: int | None
    unread: list[str]

    def __new__(cls, source: Any, id_column: str, vector_column: str | None, documents: Any, text_column: str | None, batch_rows: int) -> Rows:
        ...

    def __iter__(self) -> Rows:
        ...

    def __next__(self) -> tuple[Any, ...]:
        ...

def _bench_search(store: Store, query: Sequence[float], k: int, n: int) -> float:
    ...

def close_all() -> None:
    """Closes every store that this process writes: for the end of the interpreter."""
    ...

def run_command_line(args: Sequence[str]) -> int:
    """Runs the command line with these arguments, the program's name first, in a process of its own; returns the exit
code."""
    ...
