"""What people hand in, as a store takes it: columns as lists, vectors as arrays. What would be taken apart, lose its order or
show what is masked is refused by its name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def path(given: Any, what: str = "a store is a directory") -> str:
    """The path of a directory or a file of this machine; a home directory is written out. ValueError for what is none."""
    try:
        text = os.fsdecode(given)
    except TypeError:
        raise TypeError(f"path is a {type(given).__name__}; give a str or a pathlib.Path") from None
    if not text:
        raise ValueError("path is empty; give the directory of a store")
    if "\0" in text:
        raise ValueError(f"path is {text!r}, and no path has a zero byte; give the directory of a store")
    if text.startswith(":memory:"):
        raise ValueError(f"path is {text!r}, and a store is a directory; for one that goes away give tempfile.mkdtemp()")
    if scheme := _SCHEME.match(text):
        advice = "copy it to this machine" if scheme[0].lower() != "file://" else "leave file:// out"
        raise ValueError(f"path is {text!r}, and {what} of this machine; {advice}")
    return os.path.expanduser(text) if text.startswith("~") and not os.path.lexists(text) else text


def counted(number: int, one: str) -> str:
    """A number and what is counted: "1 row", "2 rows"."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


_ONE = {"ids": "one id", "documents": "one document"}


def column(name: str, given: Any, *, ordered: bool = True) -> Any:
    """A list, an array or an iterator of what was given for `name`. `ordered`: its rows belong to those of another one."""
    if isinstance(given, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"{name} is a {type(given).__name__}, which would be taken apart; give a list{_of(name)}")
    if isinstance(given, Mapping) and type(given).__module__.partition(".")[0] != "vecstone":
        raise TypeError(f"{name} is a {type(given).__name__}, which is {_ONE.get(name, 'one value')} or a table; "
                        f"give a list{_of(name)}")
    if ordered and isinstance(given, (set, frozenset)):
        raise TypeError(f"{name} is a {type(given).__name__}, which has no order of its own; give a list{_of(name)}, "
                        "say sorted(...)")
    if hasattr(given, "columns") or hasattr(given, "column_names"):
        raise TypeError(f"{name} is a {type(given).__name__}, which has columns; give one of them")
    if is_masked(given):
        import numpy as np

        refuse_masked(name, given)
        return np.asarray(given)
    return as_list(given) if hasattr(given, "to_pylist") else given  # Arrow: its own values are not Python's


def as_list(given: Any) -> Any:
    """A column of Arrow, pandas or polars as a list of Python's values; None for anything else."""
    for name in ("to_pylist", "to_list"):
        if hasattr(given, name):
            return getattr(given, name)()
    return None


def _of(name: str) -> str:
    return f" of {name}" if name in _ONE else ""


def is_masked(given: Any) -> bool:
    """Whether it is one of numpy's masked arrays."""
    masked = sys.modules.get("numpy.ma")  # without it there are none
    return masked is not None and isinstance(given, masked.MaskedArray)


def refuse_masked(name: str, given: Any) -> None:
    """ValueError for the first place that is masked."""
    import numpy as np

    mask = np.ma.getmaskarray(given)
    if mask.any():
        place = [int(at) for at in np.argwhere(mask)[0]]
        raise ValueError(f"{name}: {_place(place)} is masked; leave such rows out, or fill them with .filled(...)")


def _place(place: Sequence[int]) -> str:
    names = ("row", "component")
    return ", ".join(f"{word} {at}" for word, at in zip(names, place, strict=False)) or "the value"


def numbers(name: str, given: Any, first: int = 0) -> npt.NDArray[Any]:
    """An array of real numbers, of whatever shape and type. TypeError for what is none, ValueError for rows of several
    lengths; both name the row, counted from `first`."""
    import numpy as np

    if isinstance(given, (str, bytes, bytearray, Mapping, AbstractSet, ValuesView)) or hasattr(given, "__next__"):
        raise TypeError(f"{name} is a {type(given).__name__}, which is no array; give rows of numbers in an array or a list")
    if is_masked(given):
        refuse_masked(name, given)
        given = np.asarray(given)
    if "numpy.ma" in sys.modules and isinstance(given, (list, tuple)):
        for row, inner in enumerate(given):
            if is_masked(inner):
                refuse_masked(f"{name}, row {first + row}", inner)
    if str(getattr(given, "dtype", "")) == "torch.bfloat16":
        given = getattr(given, "float")()
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise _not_of_one_length(name, given, error, first) from None
    if array.dtype.kind == "O" and array.size:
        return _stacked(name, array, first)
    if array.dtype.kind == "V" and "float" in array.dtype.name:  # bfloat16 and its kin, which numpy has no kind for
        return array.astype("float32")
    if array.dtype.kind not in "fiu" and array.size:
        raise TypeError(f"{name} of dtype {array.dtype} are not numbers; give float32")
    return array


def _not_of_one_length(name: str, given: Any, error: ValueError, first: int) -> Exception:
    lengths: list[int] = []
    inner = given
    try:
        for inner in given:
            lengths.append(len(inner))
    except TypeError:
        return TypeError(f"{name}: row {first + len(lengths)} is {inner!r}, which is no vector; give each row its numbers")
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            return ValueError(f"the {name} are not of one length: row {first + row} has {counted(length, 'component')}, "
                              f"row {first} has {lengths[0]}")
    return ValueError(f"the {name} are not of one length: {error}")


def _stacked(name: str, array: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
    """An array of rows, as a column of pandas is, as one of numbers."""
    import numpy as np

    if array.ndim == 1 and not _is_number(array[0]):
        rows = [_row(name, first + row, inner) for row, inner in enumerate(array)]
        if any(len(inner) != len(rows[0]) for inner in rows):
            raise _not_of_one_length(name, rows, ValueError(), first)
        return np.stack(rows)
    for place, value in np.ndenumerate(array):
        if not _is_number(value):
            where = _place([first + place[0], *place[1:]] if place else [])
            raise TypeError(f"{name}: {where} is {value!r}, a {type(value).__name__}: vectors of dtype object are not "
                            "numbers; give float32")
    return array.astype("float64")


def _row(name: str, row: int, inner: Any) -> npt.NDArray[Any]:
    import numpy as np

    if inner is None or isinstance(inner, (str, bytes)) or np.ndim(inner) != 1:
        raise TypeError(f"{name}: row {row} is {inner!r:.60}, which is no vector: vectors of dtype object are not numbers; "
                        "give each row its numbers")
    return numbers(f"{name}, row {row}", inner)


def _is_number(value: Any) -> bool:
    import numpy as np

    decimal = sys.modules.get("decimal")  # without it there are none
    numbers = (int, float, np.integer, np.floating, *((decimal.Decimal,) if decimal else ()))
    return isinstance(value, numbers) and not isinstance(value, bool)
