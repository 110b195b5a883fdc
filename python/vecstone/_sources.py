"""Where rows come from: files, tables, iterators of batches."""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

from . import _core
from ._check import as_float32, json_line, json_text, placed
from ._given import as_list, column, counted, path
from ._rows import BATCH_BYTES, Batch, Columns, in_pieces, rows_at_once

_SAMPLE = 64
"""Rows that are read to tell how large the others may be."""


def open_source(source: Any, columns: Columns, rows: int | None) -> tuple[int | None, Iterator[Batch]]:
    """The number of rows, if it is known, and the batches: of so many rows, or of the usual size."""
    if isinstance(source, (str, os.PathLike)):
        return _file(path(source, "a source is a file"), columns, rows)
    if hasattr(source, "__arrow_c_stream__"):
        # Before the stream is open: some ask their database for it.
        length = _length(source)
        found = _native(_open(_with_columns(source, columns), columns), columns, "")
        if isinstance(source, (_core.Store, _core.Snapshot)):
            found = map(_whole_documents, found)
        return length, in_pieces(found, rows)
    if hasattr(source, "with_format") and hasattr(source, "iter"):  # Hugging Face datasets
        table = source.with_format("arrow")
        rows = rows or rows_at_once(next(_each(table.iter(batch_size=_SAMPLE), columns, _SAMPLE), None))
        return _length(source), _each(table.iter(batch_size=rows), columns, rows)
    if _has_columns(source):
        return len(source[columns.id_name()]), in_pieces([_of_columns(source, columns)], rows)
    return _length(source), _each(source, columns, rows)


def as_iterable(source: Any) -> Any:
    """The source; what holds one row, one batch or a column of texts as a list. TypeError for what holds no rows."""
    kind = type(source).__name__
    if kind == "LazyFrame":
        raise TypeError("a LazyFrame holds no rows yet; give frame.collect()")
    if kind == "DatasetDict" or (isinstance(source, Mapping) and any(hasattr(part, "with_format") for part in source.values())):
        raise TypeError(f"a {kind} holds several data sets; give one of them, say source[{next(iter(source), 'train')!r}]")
    if isinstance(source, (str, os.PathLike)) or _has_columns(source) or hasattr(source, "with_format"):
        return [source] if is_row(source) else source
    if (listed := as_list(source)) is not None:
        return listed
    if hasattr(source, "__arrow_c_stream__"):
        return source
    dtype = getattr(source, "dtype", None)
    if getattr(dtype, "kind", "") in ("O", "U", "T"):
        return _list(source)
    if isinstance(source, (bytes, set, frozenset)) or not isinstance(source, Iterable) or dtype is not None:
        raise TypeError(f"cannot read rows from {kind}; give a path, an Arrow table, rows as dicts, or batches")
    return [source] if isinstance(source, tuple) and _is_one_batch(source) else source


def _is_one_batch(source: tuple[Any, ...]) -> bool:
    """Whether it is (ids, vectors[, documents]) and not a tuple of such."""
    first = source[0] if len(source) in (2, 3) else None
    if hasattr(first, "dtype") or hasattr(first, "to_list") or hasattr(first, "to_pylist"):
        return True
    return isinstance(first, list) and bool(first) and _is_scalar(first[0])


def _is_scalar(value: Any) -> bool:
    """Whether it is one value, and no column."""
    scalar = isinstance(value, (str, bytes, int, float, uuid.UUID, type(None)))
    return scalar or (hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0)


def is_row(item: Any, id_name: Any = "id") -> bool:
    """Whether a mapping is one row: then its id is one value, and no column of them."""
    if not isinstance(item, Mapping) or hasattr(item, "__arrow_c_stream__") or isinstance(item, _core.Snapshot):
        return False
    name = id_name if isinstance(id_name, str) else "id"
    return _is_scalar(item[name]) if name in item else any(isinstance(value, (str, int, float)) for value in item.values())


def _whole_documents(batch: Batch) -> Batch:
    """The rows of another store: where it has no document, the copy has none."""
    if batch.lines is None:
        return batch
    return batch._replace(lines=[_core.NO_DOCUMENT if line is None else line for line in batch.lines])


def _length(source: Any) -> int | None:
    return len(source) if hasattr(source, "__len__") else None


def _has_columns(source: Any) -> bool:
    """A dict of columns, or a table."""
    return isinstance(source, Mapping) or hasattr(source, "columns") or hasattr(source, "column_names")


def _with_columns(table: Any, columns: Columns) -> Any:
    """The table without the columns that are not asked for: Arrow may have no type for them."""
    if columns.documents == "*" or not (hasattr(table, "columns") or hasattr(table, "column_names")):
        return table
    asked = [columns.id_name(), columns.vector, columns.text, *columns.asked_documents()]
    there = list(getattr(table, "column_names", None) or table.columns)
    _check_names(table, columns, there)
    columns.pass_over(there)
    if hasattr(table, "iloc"):  # pandas; a column that is not there may be the index
        return table.loc[:, [name in asked for name in there]]
    if hasattr(table, "select") and not hasattr(table, "fetchall") and all(isinstance(name, str) for name in there):
        return table.select([name for name in dict.fromkeys(there) if name in asked])
    return table


def _check_names(table: Any, columns: Columns, there: list[Any]) -> None:
    """ValueError for a column that is not there: of all that are, which Arrow does not get to see."""
    index = [name for name in getattr(getattr(table, "index", None), "names", ()) if name is not None]
    if getattr(getattr(table, "index", None), "name", "") is None:
        index.append("__index_level_0__")  # what Arrow calls an index that has no name
    documents = [] if columns.documents == "auto" else [("the documents", name) for name in columns.asked_documents()]
    for role, name in (("the ids", columns.id_name()), ("the vectors", columns.vector), ("the texts", columns.text), *documents):
        if name is not None and name not in there and name not in index:
            names = ", ".join(json.dumps(str(known)) for known in there) or "none"
            advice = "; the index is no column: table.reset_index(names='id') makes one of it"
            raise ValueError(f"no column {json.dumps(name)} for {role}; the columns are {names}"
                             + (advice if role == "the ids" and hasattr(table, "reset_index") else ""))


# ---- files, and what is Arrow ----


def _file(path: str, columns: Columns, rows: int | None) -> tuple[int | None, Iterator[Batch]]:
    if os.path.isfile(os.path.join(path, "MANIFEST")):
        raise ValueError(f"{path}: a store; hand it in open, as ingest(store, vecstone.open({path!r}, 'r'))")
    if stat.S_ISFIFO(os.stat(path).st_mode):  # to open one waits for who writes to it
        raise ValueError(f"{path}: not a regular file; write it to one first")
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic == b"\x93NUMPY":
        return _npy(path, columns)
    place = f"{os.fsdecode(path)}: "
    rows = rows or rows_at_once(next(_native(_open(path, columns, _SAMPLE), columns, place), None))
    opened = _open(path, columns, rows)
    return opened.total, _noted(_native(opened, columns, place), opened, columns)


def _noted(batches: Iterator[Batch], opened: _core.Rows, columns: Columns) -> Iterator[Batch]:
    """The same, taking note of what is not read: JSON lines know after their first line."""
    for batch in batches:
        columns.pass_over(opened.unread)
        yield batch


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


def _npy(path: str, columns: Columns) -> tuple[int, Iterator[Batch]]:
    import numpy as np

    place = f"{os.fsdecode(path)}: "
    if columns.vector is None:
        raise ValueError(f"{place}a .npy file has no texts to embed")
    if columns.documents not in (None, "auto"):
        raise ValueError(f"{place}a .npy file has no document_columns; give an iterator of (ids, vectors, documents)")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{place}the array has shape {array.shape}; give shape (rows, dim)")
    ids = None if isinstance(columns.id, str) else _sliceable(column("id_column", columns.id))
    if ids is not None and len(ids) != len(array):
        raise ValueError(f"{place}{counted(len(array), 'row')}, but {counted(len(ids), 'id')}; give one for each row")
    stem = os.path.splitext(os.path.basename(os.fsdecode(path)))[0]
    step = max(1, BATCH_BYTES // (4 * array.shape[1]))

    def batches() -> Iterator[Batch]:
        for at in range(0, len(array), step):
            part = array[at : at + step]
            names = [f"{stem}-{at + n:09}" for n in range(len(part))] if ids is None else _list(ids[at : at + step])
            yield Batch(names, as_float32(part, first=at), None, None, place, at)

    return len(array), batches()


def _sliceable(ids: Any) -> Any:
    return ids if hasattr(ids, "__getitem__") and hasattr(ids, "__len__") else list(ids)


def _list(column: Any) -> list[Any]:
    return column.tolist() if hasattr(column, "tolist") else list(column)


# ---- iterators ----


def _each(source: Iterable[Any], columns: Columns, rows: int | None) -> Iterator[Batch]:
    """Of an iterator: texts, rows as dicts, or batches, each an Arrow table, a dict of columns, a pandas table or
    (ids, vectors[, documents])."""
    items = iter(source)
    first = next(items, None)
    if first is None:
        return
    items = chain([first], items)
    if isinstance(first, str):
        yield from _of_texts(items, columns, rows)
    elif is_row(first, columns.id):
        yield from in_pieces(_of_rows(items, columns), rows)
    else:
        for number, batch in enumerate(items):
            yield from in_pieces(_of_batch(batch, number, columns), rows)


def _of_batch(batch: Any, number: int, columns: Columns) -> Iterator[Batch]:
    place = f"batch {number}, "
    if hasattr(batch, "__arrow_c_stream__") or hasattr(batch, "__arrow_c_array__"):
        batch = _with_columns(batch, columns)
        stream = batch if hasattr(batch, "__arrow_c_stream__") else _AsStream(batch)
        return _named(place, _native(_open(stream, columns), columns, place))
    if is_row(batch, columns.id):
        raise TypeError(f"batch {number} is a row, and the ones before it are batches; give one or the other")
    if _has_columns(batch):
        return iter([_of_columns(batch, columns, place)])
    if isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
        return iter([_of_arrays(batch, columns, place)])
    raise TypeError(f"batch {number} is a {type(batch).__name__}; give an Arrow table, a dict of columns or (ids, vectors)")


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
    try:
        ids = _list(column("ids", batch[0]))
        documents = column("documents", batch[2]) if len(batch) == 3 and batch[2] is not None else None
    except (TypeError, ValueError) as error:
        raise placed(error, place) from None
    made = _with_vectors(Batch(ids, None, None, None, place), batch[1])
    if documents is None or columns.documents is None:
        return made
    lines = [json_line(document, partial(made.at, n, "document")) for n, document in enumerate(documents)]
    if len(lines) != len(ids):
        raise ValueError(f"{place}{counted(len(ids), 'id')}, but {counted(len(lines), 'document')}; give one for each id")
    return made._replace(lines=lines)


def _with_vectors(batch: Batch, vectors: Any) -> Batch:
    n = len(batch.ids)
    try:
        array = as_float32(vectors, batch.column or "vectors", batch.first)
    except (TypeError, ValueError) as error:
        raise placed(error, batch.place) from None
    if n == 0 and array.size == 0:
        return batch
    if array.ndim != 2 or len(array) != n or array.shape[1] == 0:
        raise ValueError(f"{batch.place}{counted(n, 'id')} {'needs' if n == 1 else 'need'} vectors of shape ({n}, dim), "
                         f"these have shape {array.shape}")
    return batch._replace(vectors=array)


# ---- rows as dicts, and texts ----

_CHUNK = 1024
"""Rows as dicts that are taken together."""


def _of_rows(items: Iterator[Any], columns: Columns) -> Iterator[Batch]:
    first = 0
    while chunk := list(islice(items, _CHUNK)):
        yield _of_some_rows(chunk, first, columns)
        first += len(chunk)


def _of_some_rows(chunk: list[Any], first: int, columns: Columns) -> Batch:
    for row, item in enumerate(chunk, first):
        if not isinstance(item, Mapping):
            raise TypeError(f"row {row} is a {type(item).__name__}; give a dict as the first row is one")
    ids = _members(chunk, columns.id_name(), first)
    batch = Batch(ids, None, None, None, "", first, columns.vector)
    if first == 0:
        columns.pass_over(chunk[0])
        for name in columns.documents if isinstance(columns.documents, list) else ():
            _members(chunk[:1], name, 0)
    if columns.documents is not None:
        batch = batch._replace(lines=[_document_of_row(item, columns, partial(batch.at, row)) for row, item in enumerate(chunk)])
    if columns.text is not None:
        return batch._replace(texts=_members(chunk, columns.text, first))
    return _with_vectors(batch, _members(chunk, columns.vector or "", first))


def _members(chunk: list[Any], name: str, first: int) -> list[Any]:
    for row, item in enumerate(chunk, first):
        if name not in item:
            raise ValueError(f"row {row}: there is no {name!r}; its keys are {', '.join(map(repr, item))}")
    return [item[name] for item in chunk]


def _document_of_row(item: Mapping[str, Any], columns: Columns, at: Callable[[str], str]) -> str | _core.NoDocument | None:
    """As of JSON lines: a row may leave out what the first one has."""
    names = _document_names(item, columns)
    document = {name: item[name] for name in names if name in item}
    if names == ["document"] and columns.text != "document":
        return _whole(item.get("document"), partial(at, "document"))
    return json_line(document, lambda: at(_culprit(document))) if names else None


def _of_texts(items: Iterator[Any], columns: Columns, rows: int | None) -> Iterator[Batch]:
    """Texts that are to be embedded, with ids of their own or made of them."""
    if columns.text is None or columns.id_of_text is None:
        raise TypeError("the source is a list of texts: give embed=, which makes their vectors")
    given = None if isinstance(columns.id, str) else iter(_list(column("id_column", columns.id)))
    first = 0
    while texts := list(islice(items, rows or _CHUNK)):
        ids = list(islice(given, len(texts))) if given else [columns.id_of_text(text) for text in texts]
        batch = Batch(ids, None, None, texts, "", first)
        if len(ids) != len(texts):
            raise ValueError(f"{counted(first + len(ids), 'id')} in id_column, but more texts; give one for each text")
        yield batch._replace(lines=_lines({columns.text: texts}, batch.at))
        first += len(texts)
    if given and next(given, None) is not None:
        raise ValueError(f"{counted(first, 'text')}, but more ids in id_column; give one for each text")


# ---- columns of Python's values ----


def _of_columns(table: Any, columns: Columns, place: str = "") -> Batch:
    ids = _column(table, columns.id_name(), place)
    batch = Batch(ids, None, None, None, place, 0, columns.vector)
    names = _document_names(table, columns)
    columns.pass_over(table.keys())
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
    return _with_vectors(batch, _at(table, columns.vector, place))


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
    try:
        return _list(column(f"column {name!r}", found))
    except (TypeError, ValueError) as error:
        raise placed(error, place) from None


def _same_length(column: list[Any], name: str, batch: Batch) -> list[Any]:
    if len(column) != len(batch.ids):
        raise ValueError(f"{batch.place}{counted(len(batch.ids), 'id')}, but {counted(len(column), 'value')} in column {name!r}")
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
