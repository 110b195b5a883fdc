"""Rows from files, tables and iterators into a store: streamed, resumable, with a progress bar."""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from inspect import isawaitable
from operator import index
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ._check import as_float32, check_finite, check_ids, check_writable, no_text
from ._embedder import Embedder, of_function
from ._given import counted
from ._rows import Batch, Columns
from ._sources import as_iterable, open_source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ._store import Store

Embed = Callable[[list[str]], Any]


class Ingested(NamedTuple):
    """What `ingest` did.

    `rows` seen, all of them; `written`; `unchanged`, stored the same already; `embedded` texts. Of an id that comes twice
    in a batch the last row is written or unchanged; the others are among `rows` only.
    """

    rows: int
    written: int
    unchanged: int
    embedded: int


def ingest(store: Store, source: Any, *, id_column: Any = "id", vector_column: str = "vector",
           document_columns: Sequence[str] | str | None = None, text_column: str | None = None,
           embed: Callable[[list[str]], npt.ArrayLike] | None = None, embed_name: str | None = None,
           replace_embedder: bool = False, batch_size: int = 256, resume: bool = True,
           progress: bool | None = None) -> Ingested:
    """Writes the rows of a source, streamed within bounded memory; no number of rows is too large.

    `source`: a path (.npy, Parquet, Arrow IPC, JSON lines, told apart by content), anything with `__arrow_c_stream__`
    (pyarrow, polars, DuckDB), a Hugging Face data set, a pandas table or a dict of columns, rows as dicts
    ([{"id": ..., "vector": ...}]), texts to be embedded, or an iterator of batches: of any of the tables, or of (ids,
    vectors[, documents]). About 16 MiB are held at a time, more where a batch of the source is larger. `id_column`: its
    name; for a .npy file and for texts also a list of ids.

    `document_columns`: a name or a list of names; the document of a row is the object of these columns, but if the only
    one is called "document", its value (text in it is JSON, but in JSON lines it is text). None: a column "document", if
    there is one, and a warning that names the others; "*": all columns but ids and vectors; []: no documents. What is null or missing keeps the document that
    is stored; `vecstone.NO_DOCUMENT` in its place removes it. Rows of another store are copied whole: where it has no
    document, the copy has none.

    `resume`: a row that is stored with the same bytes and the same document is not written again, so that after a crash
    the same call goes on. Of an id that comes twice the last row counts.

    `embed(texts) -> array of shape (n, dim)` makes the vectors, from the texts of `text_column`, `batch_size` at a time;
    the text becomes part of the document, with the `document_columns` that are named. Texts without a table are kept under
    "text", unless `text_column` says otherwise, and their ids are made of them: equal texts are one row. Everything else about a batch is
    checked before its texts are embedded. Equal texts are embedded once in a call, of the last million different ones.
    Each batch is durable before the next call, and with `resume` a row that is
    stored with the same text is not embedded again, so that after a crash the same call pays for the rest only.

    `embed_name`: the name of what makes the vectors, kept in the store (`Store.embed_name`). None is the module and the
    qualified name of `embed` if that is a plain function; methods, lambdas, partials and other objects have none. Another
    name than the store has is an EmbedderMismatch, before anything is embedded. `replace_embedder`: the vectors of this
    call are made anew, whatever is stored, and the new name is recorded when all of them are.

    `progress`: a bar of tqdm, if that is installed; None shows it in terminals and notebooks.

    ValueError names file, column and row, counted from 0 (in JSON lines mostly the line, from 1; of an iterator the batch
    and the row in it). TypeError: vectors that are no numbers, ids or documents that are none. What was written before
    an error stays.
    """
    if not hasattr(store, "put_many"):
        raise TypeError(f"store is a {type(store).__name__}; write ingest(store, source), with a store that is open")
    try:
        batch_size = index(batch_size)
    except TypeError:
        raise TypeError(f"batch_size is {batch_size!r}; give a whole number") from None
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give 1 or more")
    source = as_iterable(source)
    if embed is not None and not callable(embed):
        raise TypeError(f"embed is {embed!r}; give a function that makes an array of vectors of a list of texts")
    if embed is not None and text_column is None:
        source, text_column = _text_column(source)
    columns = _columns(id_column, vector_column, document_columns, text_column if embed else None)
    unread: dict[str, None] | None = {} if document_columns is None else None
    columns = columns._replace(id_of_text=partial(_id_of_text, store.id_kind), unread=unread)
    check_writable(store)
    embedder = Embedder(store, embed_name or of_function(embed), replace_embedder)
    resume = resume and not embedder.replaces
    total, batches = open_source(source, columns, batch_size if embed else None)
    memory = _Embedded(embed) if embed is not None else None
    seen = written = unchanged = embedded = 0
    with _bar(total, progress) as bar:
        for batch in batches:
            if memory is None:
                different, done = _plain(store, batch, resume, embedder)
            else:
                different, done, calls = _embedded(store, batch, columns.text or "", (memory, embedder), resume)
                embedded += calls
            seen += len(batch.ids)
            written += done
            if not embedder.replaces:
                embedder.record()
            unchanged += different - done
            if bar is not None:
                bar.update(len(batch.ids))
    store.flush()
    embedder.record()
    if unread:
        warnings.warn(f"columns that were not read: {', '.join(map(repr, unread))}; document_columns names those of which "
                      "documents are made, '*' all, [] none", stacklevel=2)
    return Ingested(seen, written, unchanged, embedded)


def _columns(id: Any, vector: str, documents: Any, text: str | None) -> Columns:
    if documents is None:
        documents = "auto" if text is None else []
    elif documents != "*" or not isinstance(documents, str):
        documents = [documents] if isinstance(documents, str) else list(documents)
        if not all(isinstance(name, str) for name in documents):
            raise TypeError("document_columns is a name, a list of names, or '*'")
    if text is not None and documents != "*":
        # The text is kept: it tells the next run what was embedded.
        documents = list(dict.fromkeys([text, *documents]))
    return Columns(id, vector if text is None else None, documents or None, text)


def _text_column(source: Any) -> tuple[Any, str]:
    """The source, and the name under which the texts that it consists of are kept."""
    first: Any = ()
    if isinstance(source, Iterator):
        first = next(source, "")
        source = chain([first] if first else [], source)
    elif isinstance(source, (list, tuple)):
        first = source[0] if source else ""
    if not isinstance(first, str):
        raise ValueError("embed needs text_column: the column whose texts are embedded")
    return source, "text"


_TEXTS = uuid.UUID("6d5f0e0c-6a38-5c2e-9c0e-1f0a5b7d4e21")
"""The namespace of the ids that are made of texts; it never changes."""


def _id_of_text(kind: str | None, text: Any) -> Any:
    """The UUIDv5 of a text, as text where the store's ids are strings."""
    if kind == "u64":
        raise TypeError("ids made of texts are UUIDs, and those of the store are of kind u64; give id_column=, a list of ids")
    if not isinstance(text, str) or no_text(text):
        return ""  # refused with its row
    id = uuid.uuid5(_TEXTS, text)
    return id if kind == "uuid" else str(id)


def _plain(store: Store, batch: Batch, resume: bool, embedder: Embedder) -> tuple[int, int]:
    """Writes rows that have their vectors; returns the number of different ids, and of those written."""
    batch.check_vectors(store.dim)
    try:
        rows = batch.last_of_each()
        return len(rows.ids), _write(store, rows, resume, embedder)
    except (TypeError, ValueError):
        check_ids(batch.ids, store.id_kind, batch.at)  # if it is an id, this says of which row
        raise


def _write(store: Store, batch: Batch, resume: bool, embedder: Embedder) -> int:
    if resume and len(store):
        same = store._unchanged(batch.ids, batch.vectors, batch.lines)
        if same.any():
            batch = batch.pick([n for n, stored in enumerate(same.tolist()) if not stored])
    if len(batch.ids):
        embedder.begin()
        store._put_lines(batch.ids, batch.vectors, batch.lines, None)
    return len(batch.ids)


class _Embedded:
    """Embeds each text once in a call, whatever ids have it: a text that is met again takes the vector of its first row."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._row_of: dict[bytes, Any] = {}

    def vectors(self, store: Store, rows: Batch, column: str) -> tuple[npt.NDArray[np.float32], int]:
        """The vectors of the rows' texts, and how many texts were embedded for them."""
        import numpy as np

        texts = [text or "" for text in rows.texts or []]
        known = self._stored(store, list(dict.fromkeys(texts)), column)
        first = {text: n for n, text in reversed(list(enumerate(texts))) if text not in known}
        new = sorted(first.values())
        if new:
            made = _vectors(self._embed, rows.pick(new), store.dim)
            known.update(zip((texts[n] for n in new), made, strict=True))
        return np.stack([known[text] for text in texts]), len(new)

    def keep(self, rows: Batch) -> None:
        """Remembers where the texts stand now. The oldest are forgotten, so that memory is bounded."""
        for id, text in zip(rows.ids, rows.texts or [], strict=True):
            self._row_of.setdefault(_digest(text or ""), id)
        for digest in list(islice(self._row_of, max(0, len(self._row_of) - _REMEMBERED))):
            del self._row_of[digest]

    def _stored(self, store: Store, texts: list[str], column: str) -> dict[str, npt.NDArray[np.float32]]:
        ids = {text: self._row_of[digest] for text in texts if (digest := _digest(text)) in self._row_of}
        # A row may have got another text since.
        documents = store.get_documents(list(ids.values()))
        there = [text for text, document in zip(ids, documents, strict=True)
                 if isinstance(document, dict) and document.get(column) == text]
        vectors = store.get_many([ids[text] for text in there])
        return dict(zip(there, vectors, strict=True))


_REMEMBERED = 1_000_000
"""Texts of which a call knows that they were embedded: about 150 MB."""


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _embedded(store: Store, batch: Batch, text_column: str, by: tuple[_Embedded, Embedder],
              resume: bool) -> tuple[int, int, int]:
    """Embeds the texts that are not stored yet, durably before it returns; returns the number of different ids, of those
    written, and of texts embedded."""
    _check_texts(batch, text_column)
    check_ids(batch.ids, store.id_kind, batch.at)
    check_writable(store)
    rows = batch.last_of_each()
    todo, moved = _new_and_moved(store, rows, text_column) if resume else (list(range(len(rows.ids))), [])
    if moved:
        part = rows.pick(moved)
        store._put_lines(part.ids, store.get_many(part.ids), part.lines, None)
    embedded = 0
    if todo:
        part = rows.pick(todo)
        memory, embedder = by
        vectors, embedded = memory.vectors(store, part, text_column)
        embedder.begin()
        store._put_lines(part.ids, vectors, part.lines, "sync")
        memory.keep(part)
    return len(rows.ids), len(todo) + len(moved), embedded


def _check_texts(batch: Batch, column: str) -> None:
    for row, text in enumerate(batch.texts or []):
        if text is None:
            raise ValueError(f"{batch.at(row, column)}: there is no text to embed (id {batch.ids[row]!r})")
        if not isinstance(text, str):
            raise TypeError(f"{batch.at(row, column)}: a text to embed is a str, not {type(text).__name__}")
        if not text.isascii() and (wrong := no_text(text)):
            raise ValueError(f"{batch.at(row, column)}: {wrong}")


def _new_and_moved(store: Store, rows: Batch, text_column: str) -> tuple[list[int], list[int]]:
    """Rows whose text is not stored, and rows of which something else in the document is not."""
    texts, lines = rows.texts or [], rows.lines or []
    new, moved = [], []
    for n, document in enumerate(store.get_documents(rows.ids)):
        if not (isinstance(document, dict) and document.get(text_column) == texts[n]):
            new.append(n)
        elif isinstance(line := lines[n], str) and document != json.loads(line):
            moved.append(n)
    return new, moved


def _vectors(embed: Embed, rows: Batch, dim: int | None) -> npt.NDArray[np.float32]:
    texts = [text or "" for text in rows.texts or []]
    made = embed(texts)
    if isawaitable(made):
        close = getattr(made, "close", None)
        if close is not None:
            close()  # else Python complains that nobody awaited it
        raise TypeError("embed is an async function; give a plain one, say lambda texts: asyncio.run(embed(texts))")
    vectors = as_float32(made, "the vectors of embed")
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ValueError(f"embed gave shape {vectors.shape} for {counted(len(texts), 'text')}; it must give (n, dim)")
    if dim is not None and vectors.shape[1] != dim:
        raise ValueError(f"embed gave vectors of {counted(vectors.shape[1], 'component')}; the store holds vectors of dim {dim}")
    check_finite(vectors, lambda row: f"what embed gave for the text of id {rows.ids[row]!r}")
    return vectors


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
