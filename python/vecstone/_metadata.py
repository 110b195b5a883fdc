"""Filters over the metadata that the adapters keep. A key is one of the metadata's first level, letter for letter; what lies
deeper is reached by a filter over the document itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._store import Snapshot, Store

_LOOKED_AT = 100
"""Rows whose metadata is looked at for an object."""


def field(key: str) -> str:
    """The key of the documents under which a key of the metadata is found."""
    return "metadata." + key.replace("\\", r"\\").replace(".", r"\.")


class DottedKeys:
    """Says once of each dotted key of a filter that no row has it, where it looks like a path into an object."""

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._settled: set[str] = set()

    def look_at(self, rows: Store | Snapshot, keys: Iterable[str]) -> None:
        """Reads documents for keys that no row was found to have yet."""
        for key in dict.fromkeys(keys):
            if "." not in key or key in self._settled:
                continue
            first = key.partition(".")[0]
            if rows.ids_where({field(key): {"$exists": True}}):
                self._settled.add(key)
            elif _is_object_somewhere(rows, first):
                self._settled.add(key)
                warnings.warn(f"no row has the metadata key {key!r}; {first!r} is an object, and its members are reached by "
                              f"{self._advice.format(path=f'metadata.{key}')}", stacklevel=4)


def _is_object_somewhere(rows: Store | Snapshot, key: str) -> bool:
    ids = rows.ids_where({field(key): {"$exists": True}})[:_LOOKED_AT]
    return any(isinstance(document["metadata"][key], dict) for document in rows.get_documents(ids))
