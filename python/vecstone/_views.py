"""`items()` and `values()` of a store: read in one go, and with an `in` that compares whole vectors."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core import _Vector


class Items(ItemsView[Any, Any]):
    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return iter(self._mapping._rows(True))  # type: ignore[attr-defined]

    def __contains__(self, item: object) -> bool:
        if not (isinstance(item, tuple) and len(item) == 2):
            return False
        id, vector = item
        rows: Mapping[Any, _Vector] = self._mapping  # type: ignore[attr-defined]
        return id in rows and _same(rows.get(id), _as_stored(vector))


class Values(ValuesView[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping._rows(False))  # type: ignore[attr-defined]

    def __contains__(self, vector: object) -> bool:
        wanted = _as_stored(vector)
        return wanted is not None and any(_same(stored, wanted) for stored in self)


def _as_stored(vector: Any) -> _Vector | None:
    """As `put` would round it; None for what it would refuse."""
    from ._check import as_float32

    try:
        return as_float32(vector)
    except (TypeError, ValueError):
        return None


def _same(stored: _Vector | None, wanted: _Vector | None) -> bool:
    """Whether two vectors are equal: numpy's own `==` gives an array."""
    import numpy as np

    return stored is not None and wanted is not None and np.array_equal(stored, wanted)
