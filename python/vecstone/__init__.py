"""Vectors, set in stone: an embedded vector store whose files are plain arrays.

>>> import numpy as np, tempfile, vecstone
>>> with vecstone.open(tempfile.mkdtemp() + "/movies", dim=3) as store:
...     store.put_many(["north", "east"], np.eye(3, dtype="float32")[:2])
...     [hit.id for hit in store.search([0.9, 0.1, 0.0], k=1)]
['north']

`open` gives a `Store`: a mapping of ids to vectors with `search`. What `flush`, `close`, leaving a `with` block, or a
write with ``durability="sync"`` has returned for survives a kill, a power cut and a full disk.
"""

from __future__ import annotations

import atexit as _atexit
from typing import TYPE_CHECKING

def _check_interpreter() -> None:
    """ImportError in a sub-interpreter: the native half does not work there, and the process would never end."""
    import _thread

    is_main = getattr(_thread, "_is_main_interpreter", None)  # from Python 3.13
    if is_main is None:
        try:
            import _xxsubinterpreters as interpreters  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            return
        main = interpreters.get_current() == interpreters.get_main()
    else:
        main = is_main()
    if not main:
        raise ImportError("vecstone works in the main interpreter of a process only; with mod_wsgi set "
                          "WSGIApplicationGroup %{GLOBAL}")


_check_interpreter()

from ._core import (
    NO_DOCUMENT,
    CancelledError,
    CorruptError,
    Error,
    ForkedError,
    LockedError,
    NoDocument,
    NotAStoreError,
    ReadOnlyError,
    Segment,
    StoreMovedError,
    UnsupportedError,
    WritingStoppedError,
    __version__,
    close_all as _close_all,
)
from ._embedder import EmbedderMismatch
from ._store import Hit, Hits, Neighbors, Snapshot, Store, open

if TYPE_CHECKING:
    from ._ingest import Ingested, ingest

__all__ = [
    "NO_DOCUMENT",
    "CancelledError",
    "CorruptError",
    "EmbedderMismatch",
    "Error",
    "ForkedError",
    "Hit",
    "Hits",
    "Ingested",
    "LockedError",
    "Neighbors",
    "NoDocument",
    "NotAStoreError",
    "ReadOnlyError",
    "Segment",
    "Snapshot",
    "Store",
    "StoreMovedError",
    "UnsupportedError",
    "WritingStoppedError",
    "__version__",
    "ingest",
    "open",
]

# What a program leaves open when it ends is flushed and closed then.
_atexit.register(_close_all)


def __getattr__(name: str) -> object:
    # Imported at first use: most programs do without.
    if name in ("Ingested", "ingest"):
        from . import _ingest

        return getattr(_ingest, name)
    raise AttributeError(f"module 'vecstone' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
