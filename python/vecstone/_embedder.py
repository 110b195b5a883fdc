"""What made the vectors of a store: its name, so that those of two are not mixed."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from . import _core
from ._given import counted

if TYPE_CHECKING:
    from ._store import Store


_MOST_BYTES = 1024  # of a name, as the library has it


class EmbedderMismatch(_core.Error, ValueError):  # noqa: N818  # says what is wrong, as KeyError does
    """The store's vectors were made by something else. `stored` and `given` are the names."""

    def __init__(self, message: str, stored: str = "", given: str = "") -> None:
        super().__init__(message)
        self.stored: str = stored
        self.given: str = given


def of_function(embed: Any) -> str | None:
    """The name of a plain function. Others have none that would tell two of them apart."""
    if not isinstance(embed, FunctionType) or "<lambda>" in embed.__qualname__:
        return None
    return f"{embed.__module__}.{embed.__qualname__}"


def of_model(model: Any) -> str | None:
    """The name of a model, as LangChain and LlamaIndex have them; a str is one."""
    names = (model, getattr(model, "model_name", None), getattr(model, "model", None))
    return next((name for name in names if isinstance(name, str) and name), None)


class Embedder:
    """The name of what makes vectors for a store, compared with the recorded one."""

    def __init__(self, store: Store, name: str | None, replace: bool) -> None:
        """EmbedderMismatch if the store has another name, unless that is to be replaced."""
        if name is not None and not isinstance(name, str):
            raise TypeError(f"embed_name is a {type(name).__name__}; give a str")
        if name is not None and not 1 <= len(name.encode()) <= _MOST_BYTES:
            raise ValueError(f"embed_name has {counted(len(name.encode()), 'byte')}; give 1 to {_MOST_BYTES}")
        if replace and name is None:
            raise ValueError("replace_embedder needs a name; give embed_name=")
        stored = store.embed_name
        self.replaces = replace and stored != name and len(store) > 0
        """Whether the vectors that are there are another's."""
        self._begun = False
        self._store, self._name, self._recorded = store, name, stored is not None and stored == name
        if name is not None and stored not in (None, name) and not replace:
            raise EmbedderMismatch(
                f"the vectors of {store.path} were made by {stored!r}, not by {name!r}; give the same one, or another store, "
                "or replace_embedder=True if all of them are to be made anew", str(stored), name)

    def begin(self) -> None:
        """Before the first vector is replaced: from here on the vectors are of two, until all are made."""
        if self.replaces and not self._begun:
            mark = f"unfinished: {self._name}".encode()[:_MOST_BYTES].decode(errors="ignore")
            self._begun = self._store._set_embed_name(mark)

    def record(self) -> None:
        """Records the name, unless it is; where the store is still to be made, the next call does."""
        if self._name is not None and not self._recorded:
            self._recorded = self._store._set_embed_name(self._name)
