"""Rows from files, tables and iterators into a store: streamed, resumable, with a progress bar."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core

if TYPE_CHECKING:
    from ._store import Store

_ROW_BYTES = 16 << 20
"""Vectors that are written together, unless they come in larger batches."""


class Ingested(NamedTuple):
    """What `ingest` did: rows seen, rows written, rows that were stored the same already, texts embedded."""

    rows: int
    written: int
    unchanged: int
    embedded: int


class _Batch(NamedTuple):
    ids: Sequence[Any]
    vectors: Any
    """float32 of shape (n, dim), or None."""
    lines: list[str | None] | None
    """Documents as JSON."""
    texts: list[str | None] | None


class _Columns(NamedTuple):
    id: Any
    vector: str | None
    documents: Any
    text: str | None


def ingest(store: Store, source: Any, *, id_column: Any = "id", vector_column: str = "vector",
           document_columns: Sequence[str] | str | None = None, text_column: str | None = None,
           embed: Callable[[list[str]], Any] | None = None, batch_size: int = 256, resume: bool = True,
           progress: bool | None = None) -> Ingested:
    """Writes the rows of a source, streamed within bounded memory; no number of rows is too large.

    `source`: a path (.npy, Parquet, Arrow IPC, JSON lines, told apart by content), anything with `__arrow_c_stream__`
    (pyarrow, polars, DuckDB), a Hugging Face data set, a pandas table or a dict of columns, or an iterator of batches: of
    any of these, or of (ids, vectors[, documents]). `id_column`: its name; for a .npy file a list of ids. The document of
    a row is the object of its `document_columns` ("*": all but ids and vectors; if the only one is called "document", its
    value, text being JSON). Without them rows have none.

    `resume`: a row that is stored with the same bytes and the same document is not written again, so that after a crash
    the same call goes on. Of an id that comes twice the last row counts.

    `embed(texts) -> array of shape (n, dim)` makes the vectors, from the texts of `text_column`, `batch_size` at a time;
    the text becomes part of the document. Each batch is durable before the next call, and with `resume` a row that is
    stored with the same text is not embedded again: a crash never makes anyone pay twice.

    `progress`: a bar of tqdm, if that is installed; None shows it in terminals and notebooks.

    ValueError names file, column and row. What was written before an error stays.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give 1 or more")
    if embed is not None and text_column is None:
        raise ValueError("embed needs text_column: the column whose texts are embedded")
    documents: Any = document_columns
    if text_column is not None and embed is not None and documents != "*":
        # The text is kept: it tells the next run what was embedded.
        documents = list(dict.fromkeys([text_column, *(documents or [])]))
    columns = _Columns(id_column, None if embed else vector_column, documents, text_column if embed else None)
    rows_at_once = batch_size if embed else max(batch_size, _ROW_BYTES // (4 * (store.dim or 256)))
    total, batches = _open(source, columns, rows_at_once)
    seen = written = unchanged = embedded = 0
    with _bar(total, progress) as bar:
        for batch in batches:
            batch = _last_of_each(batch)
            if embed is None:
                done = _write(store, batch, resume)
            else:
                done, calls = _embed(store, batch, embed, resume, text_column or "")
                embedded += calls
            seen += len(batch.ids)
            written += done
            unchanged += len(batch.ids) - done
            if bar is not None:
                bar.update(len(batch.ids))
    store.flush()
    return Ingested(seen, written, unchanged, embedded)


def _write(store: Store, batch: _Batch, resume: bool) -> int:
    if resume and len(store):
        same = store._unchanged(batch.ids, batch.vectors, batch.lines)
        if same.any():
            batch = _pick(batch, [n for n, stored in enumerate(same.tolist()) if not stored])
    if len(batch.ids):
        store._put_lines(batch.ids, batch.vectors, batch.lines, None)
    return len(batch.ids)


def _embed(store: Store, batch: _Batch, embed: Callable[[list[str]], Any], resume: bool,
           text_column: str) -> tuple[int, int]:
    """Embeds the texts that are not stored yet, durably before it returns; returns rows written and texts embedded."""
    import numpy as np

    texts, lines = batch.texts or [], batch.lines or []
    for n, text in enumerate(texts):
        if text is None:
            raise ValueError(f"the row of id {batch.ids[n]!r} has no text in column {text_column!r}")
    todo, moved = list(range(len(texts))), []
    if resume and len(store):
        stored = store.get_documents(batch.ids)
        todo = [n for n, document in enumerate(stored)
                if not (isinstance(document, dict) and document.get(text_column) == texts[n])]
        known = sorted(set(range(len(texts))) - set(todo))
        # The text is the same, something else in the document is not.
        moved = [n for n in known if stored[n] != json.loads(lines[n] or "null")]
    if moved:
        ids = [batch.ids[n] for n in moved]
        store._put_lines(ids, store.get_many(ids), [lines[n] for n in moved], None)
    if todo:
        wanted = [texts[n] or "" for n in todo]
        vectors = np.asarray(embed(wanted))
        if vectors.ndim != 2 or len(vectors) != len(wanted):
            raise ValueError(f"embed gave shape {vectors.shape} for {len(wanted)} texts; it must give (n, dim)")
        store._put_lines([batch.ids[n] for n in todo], vectors, [lines[n] for n in todo], "sync")
    return len(todo) + len(moved), len(todo)


def _pick(batch: _Batch, rows: list[int]) -> _Batch:
    def of(column: Any) -> Any:
        return None if column is None else [column[n] for n in rows]

    vectors = None if batch.vectors is None else batch.vectors[rows]
    return _Batch(of(batch.ids), vectors, of(batch.lines), of(batch.texts))


def _last_of_each(batch: _Batch) -> _Batch:
    """Of an id that comes twice the last row counts, and the first is neither compared nor embedded."""
    last = {id: n for n, id in enumerate(batch.ids)}
    return batch if len(last) == len(batch.ids) else _pick(batch, sorted(last.values()))


# ---- sources ----


def _open(source: Any, columns: _Columns, rows: int) -> tuple[int | None, Iterator[_Batch]]:
    """The number of rows, if it is known, and the batches."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        with open(path, "rb") as file:
            magic = file.read(6)
        if magic == b"\x93NUMPY":
            return _npy(path, columns, rows)
        native = _native(path, columns, rows)
        return native.total, map(_of_native, native)
    if hasattr(source, "__arrow_c_stream__"):
        total = len(source) if hasattr(source, "__len__") else None
        return total, _in_pieces(map(_of_native, _native(source, columns, rows)), rows)
    if hasattr(source, "with_format") and hasattr(source, "iter"):  # Hugging Face datasets
        total = len(source) if hasattr(source, "__len__") else None
        return total, _each(source.with_format("arrow").iter(batch_size=rows), columns, rows)
    if isinstance(source, Mapping) or hasattr(source, "columns"):  # a dict of columns, a pandas table
        return len(source[_name(columns.id)]), _in_pieces(iter([_of_columns(source, columns)]), rows)
    if isinstance(source, (bytes, str)) or not isinstance(source, Iterable):
        raise TypeError(f"cannot read rows from {type(source).__name__}; give a path, an Arrow table, or batches")
    return None, _each(source, columns, rows)


def _name(column: Any) -> str:
    if isinstance(column, str):
        return column
    raise TypeError("id_column is the name of a column here; a list of ids goes with a .npy file")


def _native(source: Any, columns: _Columns, rows: int) -> _core.Rows:
    return _core.Rows(source, _name(columns.id), columns.vector, columns.documents, columns.text, rows)


def _of_native(found: tuple[Any, ...]) -> _Batch:
    return _Batch(*found)


def _npy(path: str, columns: _Columns, rows: int) -> tuple[int, Iterator[_Batch]]:
    import numpy as np

    if columns.vector is None:
        raise ValueError(f"{path}: a .npy file has no texts to embed")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2:
        raise ValueError(f"{path}: the array has shape {array.shape}; give shape (rows, dim)")
    stem = os.path.splitext(os.path.basename(path))[0]
    ids: Any = None
    if not isinstance(columns.id, str):
        ids = columns.id if hasattr(columns.id, "__getitem__") else list(columns.id)
        if len(ids) != len(array):
            raise ValueError(f"{path} has {len(array)} rows, but there are {len(ids)} ids")
    rows = max(1, min(rows, _ROW_BYTES // max(1, array.shape[1] * 4)))

    def batches() -> Iterator[_Batch]:
        for at in range(0, len(array), rows):
            part = array[at : at + rows]
            names: Any = ids[at : at + rows] if ids is not None else [f"{stem}-{at + n:09}" for n in range(len(part))]
            yield _Batch(names.tolist() if hasattr(names, "tolist") else list(names), part.astype("float32"), None, None)

    return len(array), batches()


def _each(batches: Iterable[Any], columns: _Columns, rows: int) -> Iterator[_Batch]:
    """Batches of an iterator, each an Arrow table, a dict of columns, a pandas table or (ids, vectors[, documents])."""
    for batch in batches:
        if hasattr(batch, "__arrow_c_stream__"):
            yield from _in_pieces(map(_of_native, _native(batch, columns, rows)), rows)
        elif hasattr(batch, "__arrow_c_array__"):
            yield from _in_pieces(map(_of_native, _native(_AsStream(batch), columns, rows)), rows)
        elif isinstance(batch, Mapping) or hasattr(batch, "columns"):
            yield from _in_pieces(iter([_of_columns(batch, columns)]), rows)
        elif isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
            if columns.vector is None:
                raise TypeError("a batch to be embedded is an Arrow table or a dict of columns")
            ids, vectors, *documents = batch
            yield from _in_pieces(iter([_of_arrays(ids, vectors, documents[0] if documents else None)]), rows)
        else:
            raise TypeError(f"a batch is an Arrow table, a dict of columns or (ids, vectors), not {type(batch).__name__}")


class _AsStream:
    """One Arrow batch as a stream of one."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        import pyarrow as pa  # whoever has a batch of the array interface has pyarrow, nearly always

        batch = pa.record_batch(self._batch)
        return pa.Table.from_batches([batch]).__arrow_c_stream__()


def _of_arrays(ids: Any, vectors: Any, documents: Any) -> _Batch:
    import numpy as np

    lines = None
    if documents is not None:
        lines = [_line(document) for document in documents]
        if len(lines) != len(ids):
            raise ValueError(f"{len(ids)} ids, but {len(lines)} documents; give one for each id")
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != len(ids):
        raise ValueError(f"{len(ids)} ids need vectors of shape ({len(ids)}, dim), these have shape {vectors.shape}")
    return _Batch(ids.tolist() if isinstance(ids, np.ndarray) else list(ids), vectors.astype("float32"), lines, None)


def _of_columns(table: Any, columns: _Columns) -> _Batch:
    def column(name: str) -> Any:
        try:
            found = table[name]
        except KeyError:
            there = ", ".join(map(repr, table.keys()))
            raise ValueError(f"there is no column {name!r}; there are {there}") from None
        return found.tolist() if hasattr(found, "tolist") and name != columns.vector else found

    ids = list(column(_name(columns.id)))
    names = columns.documents
    if names == "*":
        names = [name for name in table.keys() if name not in (columns.id, columns.vector)]
    lines: list[str | None] | None = None
    if names:
        members = [column(name) for name in names]
        lines = [_line(dict(zip(names, values, strict=True))) for values in zip(*members, strict=True)]
    texts = None if columns.text is None else list(column(columns.text))
    if columns.vector is None:
        return _Batch(ids, None, lines, texts)
    vectors = column(columns.vector)
    if hasattr(vectors, "to_list"):  # a pandas column of lists
        vectors = vectors.to_list()
    return _of_arrays(ids, vectors, None)._replace(lines=lines)


def _line(document: Any) -> str | None:
    if document is None:
        return None
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _in_pieces(batches: Iterable[_Batch], rows: int) -> Iterator[_Batch]:
    """The same rows, at most so many at once."""
    for batch in batches:
        for at in range(0, len(batch.ids), rows):
            piece = slice(at, at + rows)
            ids, vectors, lines, texts = (None if column is None else column[piece] for column in batch)
            yield _Batch(ids, vectors, lines, texts)  # type: ignore[arg-type]


# ---- progress ----


def _bar(total: int | None, progress: bool | None) -> Any:
    """A progress bar, where somebody sees it and tqdm is there."""
    notebook = "ipykernel" in sys.modules
    if progress is None:
        progress = notebook or sys.stderr.isatty()
    if not progress:
        return nullcontext()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return nullcontext()
    return tqdm(total=total, unit=" rows", unit_scale=True, desc="ingest")
