"""What is checked in Python: what a store would refuse only later, or could not say the place of."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ._core import NoDocument
from ._given import counted, numbers
from ._json import encode, plain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ._store import Store

    Place = Callable[[int], str]
    """What a message calls a row of that number."""

MAX_ID_BYTES = 65_536
MAX_ID_NUMBER = 2**64 - 2


def check_writable(store: Store, durability: Any = "buffered") -> None:
    """Raises what any write would: the store is closed, read-only, a fork's, stopped writing, or cannot be made."""
    store.put_many([], [], durability=durability)


def check_ids(ids: Sequence[Any], kind: str | None, place: Place) -> None:
    """TypeError or ValueError for the first id that a store of this kind (None: not fixed yet) would refuse."""
    for row, id in enumerate(ids):
        found = _kind_of(id)
        if found is None:
            raise TypeError(f"{place(row)}: an id is a str, an int or a uuid.UUID, not {type(id).__name__}")
        kind = kind or found
        if found != kind:
            raise TypeError(f"{place(row)}: the other ids are of kind {kind}, this one is of kind {found}; "
                            "use one kind in a store")
        if wrong := _what_is_wrong_with(id, found):
            raise ValueError(f"{place(row)}: {wrong}")


def _kind_of(id: Any) -> str | None:
    import numpy as np

    if isinstance(id, str):
        return "string"
    if isinstance(id, int | np.integer) and not isinstance(id, bool):
        return "u64"
    return "uuid" if isinstance(id, uuid.UUID) else None


def _what_is_wrong_with(id: Any, kind: str) -> str | None:
    if kind == "u64" and not 0 <= id <= MAX_ID_NUMBER:
        return f"id {id} is not between 0 and 2^64 - 2"
    if kind != "string":
        return None
    size = len(id.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_ID_BYTES:
        return f"the id has {counted(size, 'byte')}; give 1 to {MAX_ID_BYTES}"
    return no_text(id)


def placed(error: Exception, place: str) -> Exception:
    """The same error, TypeError or ValueError, with its place before it."""
    return (TypeError if isinstance(error, TypeError) else ValueError)(f"{place}{error}")


def no_text(text: str) -> str | None:
    """What is wrong with a text that no file can hold: it has half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"the text cannot be stored: {error}"
    return None


def as_float32(vectors: Any, name: str = "vectors", first: int = 0) -> npt.NDArray[np.float32]:
    """Real numbers, rounded to float32; whatever shape they have. By the rule of `put_many`: text, bools and complex
    numbers are a TypeError. `first`: the number of the first row, for messages."""
    import numpy as np

    array = numbers(name, vectors, first)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
        return array.astype("float32", copy=False)


def check_finite(vectors: npt.NDArray[np.float32], place: Place) -> None:
    """ValueError for the first row with NaN or infinity."""
    import numpy as np

    finite = np.isfinite(vectors)
    if not finite.all():
        row, component = (int(at) for at in np.argwhere(~finite)[0])
        raise ValueError(f"{place(row)}: component {component} of the vector is {vectors[row, component]}; "
                         "give finite numbers that float32 can hold")


def json_line(document: Any, place: Callable[[], str]) -> str | NoDocument | None:
    """A document as JSON; None and NO_DOCUMENT as they are. TypeError or ValueError for what JSON cannot hold."""
    if document is None or isinstance(document, NoDocument):
        return document
    try:
        text = encode(document)
    except (TypeError, ValueError) as error:
        raise placed(error, f"{place()}: ") from None
    if not text.isascii() and (wrong := no_text(text)):
        raise ValueError(f"{place()}: {wrong}")
    return text


def json_text(text: str, place: Callable[[], str]) -> str | None:
    """A text that is JSON, as it stands; None for null."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(f"{place()}: not one JSON value: {error}; correct it, or give the column another name "
                         "if it is plain text") from None
    return None if value is None else text


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def check_text(text: Any, name: str) -> None:
    """TypeError or ValueError for what is no text that can be stored."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is a {type(text).__name__}, not a str")
    if wrong := no_text(text):
        raise ValueError(f"{name}: {wrong}")


def check_json(value: Any, name: str) -> None:
    """TypeError naming the place of what JSON cannot hold, before anything is embedded."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the keys of {name} must be strings, but {key!r} is a {type(key).__name__}")
            check_text(key, f"a key of {name}")
            check_json(inner, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            check_json(inner, f"{name}[{i}]")
    elif isinstance(value, str):
        check_text(value, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{name} is {value!r}, which JSON has no word for: store None or leave it out")
    elif not (value is None or isinstance(value, bool | int | float)):
        try:
            known = plain(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: {error}") from None
        check_json(known, name)
