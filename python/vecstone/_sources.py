"""Where rows come from: files, tables, iterators of batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from . import _core
from ._check import as_float32, json_line, json_text, placed
from ._rows import BATCH_BYTES, Batch, Columns, in_pieces, rows_at_once

_SAMPLE = 64
"""Rows that are read to tell how large the others may be."""


def open_source(source: Any, columns: Columns, rows: int | None) -> tuple[int | None, Iterator[Batch]]:
    """The number of rows, if it is known, and the batches: of so many rows, or of the usual size."""
    if isinstance(source, (str, os.PathLike)):
        return _file(os.fspath(source), columns, rows)
    if hasattr(source, "__arrow_c_stream__"):
        # Before the stream is open: some ask their database for it.
        length = _length(source)
        found = _native(_open(source, columns), columns, "")
        if isinstance(source, (_core.Store, _core.Snapshot)):
            found = map(_whole_documents, found)
        return length, in_pieces(found, rows)
    if hasattr(source, "with_format") and hasattr(source, "iter"):  # Hugging Face datasets
        table = source.with_format("arrow")
        rows = rows or rows_at_once(next(_each(table.iter(batch_size=_SAMPLE), columns, _SAMPLE), None))
        return _length(source), _each(table.iter(batch_size=rows), columns, rows)
    if _has_columns(source):
        return len(source[columns.id_name()]), in_pieces([_of_columns(source, columns)], rows)
    if isinstance(source, (bytes, str)) or not isinstance(source, Iterable):
        raise TypeError(f"cannot read rows from {type(source).__name__}; give a path, an Arrow table, or batches")
    return None, _each(source, columns, rows)


def _whole_documents(batch: Batch) -> Batch:
    """The rows of another store: where it has no document, the copy has none."""
    if batch.lines is None:
        return batch
    return batch._replace(lines=[_core.NO_DOCUMENT if line is None else line for line in batch.lines])


def _length(source: Any) -> int | None:
    return len(source) if hasattr(source, "__len__") else None


def _has_columns(source: Any) -> bool:
    """A dict of columns, or a pandas table."""
    return isinstance(source, Mapping) or hasattr(source, "columns")


# ---- files, and what is Arrow ----


def _file(path: Any, columns: Columns, rows: int | None) -> tuple[int | None, Iterator[Batch]]:
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic == b"\x93NUMPY":
        return _npy(path, columns)
    place = f"{os.fsdecode(path)}: "
    rows = rows or rows_at_once(next(_native(_open(path, columns, _SAMPLE), columns, place), None))
    opened = _open(path, columns, rows)
    return opened.total, _native(opened, columns, place)


def _open(source: Any, columns: Columns, rows: int = _SAMPLE) -> _core.Rows:
    """`rows` are for files: a stream has the batches that it has."""
    documents = None if columns.documents == [columns.text] else columns.documents
    return _core.Rows(source, columns.id_name(), columns.vector, documents, columns.text, rows)


def _native(found: Iterable[tuple[Any, ...]], columns: Columns, place: str) -> Iterator[Batch]:
    first = 0
    for ids, vectors, lines, texts in found:
        batch = Batch(ids, vectors, lines, texts, place, first, columns.vector)
        if columns.text is not None and columns.documents == [columns.text]:
            # A text is a member even in a column called "document", which would be a document by itself.
            batch = batch._replace(lines=_lines({columns.text: texts}, batch.at))
        yield batch
        first += len(ids)


def _npy(path: Any, columns: Columns) -> tuple[int, Iterator[Batch]]:
    import numpy as np

    place = f"{os.fsdecode(path)}: "
    if columns.vector is None:
        raise ValueError(f"{place}a .npy file has no texts to embed")
    if columns.documents not in (None, "auto"):
        raise ValueError(f"{place}a .npy file has no document_columns; give an iterator of (ids, vectors, documents)")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{place}the array has shape {array.shape}; give shape (rows, dim)")
    ids = None if isinstance(columns.id, str) else _sliceable(columns.id)
    if ids is not None and len(ids) != len(array):
        raise ValueError(f"{place}there are {len(array)} rows, but there are {len(ids)} ids")
    stem = os.path.splitext(os.path.basename(os.fsdecode(path)))[0]
    step = max(1, BATCH_BYTES // (4 * array.shape[1]))

    def batches() -> Iterator[Batch]:
        for at in range(0, len(array), step):
            part = array[at : at + step]
            names = [f"{stem}-{at + n:09}" for n in range(len(part))] if ids is None else _list(ids[at : at + step])
            yield Batch(names, as_float32(part), None, None, place, at)

    return len(array), batches()


def _sliceable(ids: Any) -> Any:
    return ids if hasattr(ids, "__getitem__") and hasattr(ids, "__len__") else list(ids)


def _list(column: Any) -> list[Any]:
    return column.tolist() if hasattr(column, "tolist") else list(column)


# ---- iterators ----


def _each(batches: Iterable[Any], columns: Columns, rows: int | None) -> Iterator[Batch]:
    """Batches of an iterator, each an Arrow table, a dict of columns, a pandas table or (ids, vectors[, documents])."""
    for number, batch in enumerate(batches):
        place = f"batch {number}, "
        if hasattr(batch, "__arrow_c_stream__") or hasattr(batch, "__arrow_c_array__"):
            stream = batch if hasattr(batch, "__arrow_c_stream__") else _AsStream(batch)
            found = _named(place, _native(_open(stream, columns), columns, place))
        elif _has_columns(batch):
            found = iter([_of_columns(batch, columns, place)])
        elif isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
            found = iter([_of_arrays(batch, columns, place)])
        else:
            raise TypeError(f"a batch is an Arrow table, a dict of columns or (ids, vectors), not {type(batch).__name__}")
        yield from in_pieces(found, rows)


def _named(place: str, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The native reader does not know which batch of an iterator it reads."""
    try:
        yield from batches
    except ValueError as error:
        raise ValueError(f"{place}{error}") from error


class _AsStream:
    """One Arrow batch as a stream of one."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        import pyarrow as pa  # whoever has a batch of the array interface has pyarrow, nearly always

        batch = pa.record_batch(self._batch)
        return pa.Table.from_batches([batch]).__arrow_c_stream__()


def _of_arrays(batch: Sequence[Any], columns: Columns, place: str) -> Batch:
    if columns.vector is None:
        raise TypeError("a batch to be embedded is an Arrow table or a dict of columns")
    if isinstance(columns.documents, list):
        raise ValueError(f"{place}(ids, vectors, documents) has no columns {columns.documents}; leave document_columns out")
    ids, documents = _list(batch[0]), batch[2] if len(batch) == 3 else None
    made = _with_vectors(Batch(ids, None, None, None, place), batch[1])
    if documents is None or columns.documents is None:
        return made
    lines = [json_line(document, partial(made.at, n, "document")) for n, document in enumerate(documents)]
    if len(lines) != len(ids):
        raise ValueError(f"{place}{len(ids)} ids, but {len(lines)} documents; give one for each id")
    return made._replace(lines=lines)


def _with_vectors(batch: Batch, vectors: Any) -> Batch:
    n = len(batch.ids)
    try:
        array = as_float32(vectors)
    except (TypeError, ValueError) as error:
        raise placed(error, batch.place) from None
    if n == 0 and array.size == 0:
        return batch
    if array.ndim != 2 or len(array) != n or array.shape[1] == 0:
        raise ValueError(f"{batch.place}{n} ids need vectors of shape ({n}, dim), these have shape {array.shape}")
    return batch._replace(vectors=array)


# ---- columns of Python's values ----


def _of_columns(table: Any, columns: Columns, place: str = "") -> Batch:
    ids = _column(table, columns.id_name(), place)
    batch = Batch(ids, None, None, None, place, 0, columns.vector)
    names = _document_names(table, columns)
    members = {name: _same_length(_column(table, name, place), name, batch) for name in names}
    if list(members) == ["document"] and columns.text != "document":
        lines = [_whole(value, partial(batch.at, n, "document")) for n, value in enumerate(members["document"])]
        batch = batch._replace(lines=lines)
    elif members:
        batch = batch._replace(lines=_lines(members, batch.at))
    if columns.text is not None:
        batch = batch._replace(texts=_same_length(_column(table, columns.text, place), columns.text, batch))
    if columns.vector is None:
        return batch
    vectors = _at(table, columns.vector, place)
    if hasattr(vectors, "to_list"):  # a pandas column of lists
        vectors = vectors.to_list()
    return _with_vectors(batch, vectors)


def _document_names(table: Any, columns: Columns) -> list[str]:
    if columns.documents == "auto":
        return [name for name in table.keys() if name == "document"]
    if columns.documents == "*":
        return [name for name in table.keys() if name not in (columns.id, columns.vector)]
    return list(columns.documents or [])


def _at(table: Any, name: str, place: str) -> Any:
    try:
        return table[name]
    except KeyError:
        there = ", ".join(map(repr, table.keys()))
        raise ValueError(f"{place}there is no column {name!r}; there are {there}") from None


def _column(table: Any, name: str, place: str) -> list[Any]:
    found = _at(table, name, place)
    if hasattr(found, "isna"):  # pandas writes NaN and NaT where there is nothing
        return [None if gone else value for value, gone in zip(found.tolist(), found.isna().tolist(), strict=True)]
    return _list(found)


def _same_length(column: list[Any], name: str, batch: Batch) -> list[Any]:
    if len(column) != len(batch.ids):
        raise ValueError(f"{batch.place}{len(batch.ids)} ids, but {len(column)} values in column {name!r}")
    return column


def _whole(value: Any, place: Callable[[], str]) -> str | _core.NoDocument | None:
    """A document by itself; text is JSON, which is what `to_arrow` and `to_pandas` write."""
    return json_text(value, place) if isinstance(value, str) else json_line(value, place)


def _lines(
    members: Mapping[str, list[Any]], at: Callable[[int, str], str]
) -> list[str | _core.NoDocument | None]:
    """Objects of columns."""
    def one(row: int, values: tuple[Any, ...]) -> str | _core.NoDocument | None:
        document = dict(zip(members, values, strict=True))
        return json_line(document, lambda: at(row, _culprit(document)))

    return [one(row, values) for row, values in enumerate(zip(*members.values(), strict=True))]


def _culprit(document: Mapping[str, Any]) -> str:
    """The member that is no JSON."""
    for name, value in document.items():
        try:
            json_line(value, str)
        except (TypeError, ValueError):
            return name
    return next(iter(document))
