"""Rows on their way into a store, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._check import check_finite
from ._core import NoDocument
from ._given import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BATCH_BYTES = 16 << 20
"""Vectors and documents that are written together, about, unless a source has larger batches."""


class Columns(NamedTuple):
    """Which columns are what."""

    id: Any
    """A name; for a .npy file also a list of ids."""
    vector: str | None
    """None: the vectors are yet to be made."""
    documents: Any
    """None for none, "auto" for a column `document` if there is one, "*" for all others, or a list of names."""
    text: str | None
    """Of the texts to be embedded."""
    id_of_text: Callable[[str], Any] | None = None
    """Makes the id of a text that comes without one."""
    unread: dict[str, None] | None = None
    """Filled with the names of columns that are there and not read, if somebody wants to know."""

    def pass_over(self, names: Iterable[Any]) -> None:
        """Takes note of those of these columns that are not read."""
        if self.unread is None or self.documents == "*":
            return
        read = {self.id if isinstance(self.id, str) else None, self.vector, self.text, *self.asked_documents()}
        self.unread.update(dict.fromkeys(str(name) for name in names if name not in read))

    def asked_documents(self) -> list[str]:
        """The columns of which documents are made, if they are known by name."""
        return ["document"] if self.documents == "auto" else list(self.documents or [])

    def id_name(self) -> str:
        if isinstance(self.id, str):
            return self.id
        raise TypeError("id_column is the name of a column here; a list of ids goes with a .npy file")


class Batch(NamedTuple):
    """Some rows. What is None is so for all of them."""

    ids: Sequence[Any]
    vectors: npt.NDArray[np.float32] | None
    """Shape (n, dim); None where they are yet to be made."""
    lines: list[str | NoDocument | None] | None
    """Documents as JSON; None keeps the stored one."""
    texts: list[str | None] | None
    place: str = ""
    """Where the rows are counted, for messages: a file, a batch of an iterator, nothing."""
    first: int = 0
    """Number of the first row there."""
    column: str | None = None
    """The column of the vectors."""

    def at(self, row: int, column: str | None = None) -> str:
        """What a message calls a row."""
        where = f"{self.place}row {self.first + row}"
        return where if column is None else f"{where}, column {column!r}"

    def bytes(self) -> int:
        """Of vectors, documents and texts, about."""
        size = 0 if self.vectors is None else self.vectors.nbytes
        columns: tuple[Sequence[Any] | None, ...] = (self.lines, self.texts)
        return size + sum(len(text) for column in columns for text in column or () if isinstance(text, str))

    def pick(self, rows: list[int]) -> Batch:
        """Some of the rows. Their numbers are lost."""
        def of(column: Any) -> Any:
            return None if column is None else [column[n] for n in rows]

        vectors = None if self.vectors is None else self.vectors[rows]
        return Batch(of(self.ids), vectors, of(self.lines), of(self.texts))

    def last_of_each(self) -> Batch:
        """Of an id that comes twice the last row counts, and the first is neither compared nor embedded. A document that the
        last one does not give is that of the one before."""
        last = {id: n for n, id in enumerate(self.ids)}
        if len(last) == len(self.ids):
            return self
        if self.lines is None:
            return self.pick(sorted(last.values()))
        given = {id: line for id, line in zip(self.ids, self.lines, strict=True) if line is not None}
        rows = self.pick(sorted(last.values()))
        return rows._replace(lines=[given.get(id) for id in rows.ids])

    def check_vectors(self, dim: int | None) -> None:
        """ValueError for vectors of another length than the store's (None: not fixed yet), NaN and infinity."""
        if self.vectors is None or not len(self.ids):
            return
        found = self.vectors.shape[1]
        if dim is not None and found != dim:
            raise ValueError(f"{self.at(0, self.column)}: the vector has {counted(found, 'component')}, "
                             f"the store holds vectors of dim {dim}")
        check_finite(self.vectors, lambda row: self.at(row, self.column))


def rows_at_once(sample: Batch | None) -> int:
    """How many rows take about as much as a batch may, if all are like these."""
    if sample is None or not len(sample.ids):
        return 1
    return max(1, BATCH_BYTES * len(sample.ids) // max(1, sample.bytes()))


def in_pieces(batches: Iterable[Batch], rows: int | None) -> Iterator[Batch]:
    """The same rows, at most so many at once; None: as many as make a batch of the usual size."""
    for batch in batches:
        step = rows or rows_at_once(batch)
        for at in range(0, len(batch.ids), step):
            piece = slice(at, at + step)
            ids, vectors, lines, texts = (None if column is None else column[piece] for column in batch[:4])
            yield Batch(ids, vectors, lines, texts, batch.place, batch.first + at, batch.column)  # type: ignore[arg-type]
