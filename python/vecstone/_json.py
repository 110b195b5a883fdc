"""Values of Python and numpy as JSON: of documents, attributes and filters."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from ._given import as_list, is_masked, refuse_masked


def moment(value: dt.datetime) -> str:
    """The one text of a point in time: UTC, six digits of a second, nine where the last three are not zero. Without a time
    zone it has no offset, and equals none that has one."""
    if value != value:
        raise ValueError(f"{value} is no point in time; give None")
    try:
        at = value if value.utcoffset() is None else value.astimezone(dt.timezone.utc)
    except OverflowError:
        raise ValueError(f"{value} is outside of the years 1 to 9999 in UTC") from None
    return at.isoformat(timespec="nanoseconds" if getattr(at, "nanosecond", 0) else "microseconds")


def _moment_of_numpy(value: Any) -> str:
    import numpy as np

    nanoseconds = value.astype("datetime64[ns]")
    exact = value.astype("datetime64[us]")
    if exact == value:
        year = int(value.astype("datetime64[Y]").astype(int)) + 1970
        if not 1 <= year <= 9999:
            raise ValueError(f"{value} is outside of the years 1 to 9999")
        return str(np.datetime_as_string(exact))
    if np.isnat(value):
        raise ValueError("NaT is no point in time; give None")
    if nanoseconds != value:
        raise ValueError(f"{value} is finer than a nanosecond; round it")
    return str(np.datetime_as_string(nanoseconds))


def plain(value: Any) -> Any:
    """What JSON has for a value that its encoder does not know. TypeError for what it has nothing for."""
    if isinstance(value, dt.datetime):
        return moment(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        raise TypeError(f"a {type(value).__name__} has no order, which JSON needs; give a list")
    np = sys.modules.get("numpy")
    if np is not None:
        if isinstance(value, np.datetime64):
            return _moment_of_numpy(value)
        if isinstance(value, np.bool_ | np.integer):
            return value.item()
        if isinstance(value, np.floating):
            return float(value)
        if isinstance(value, np.ndarray):
            if is_masked(value):
                refuse_masked("the array", value)
            return list(value) if value.ndim else value[()]
    raise TypeError(f"a {type(value).__name__} is no JSON value; give text, a number, a bool, None, a list or a dict")


def _plain_in_filter(value: Any) -> Any:
    """The same in a filter, where the order of a list does not count."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    column = as_list(value)
    return plain(value) if column is None else column


def _encoder(default: Callable[[Any], Any]) -> Callable[[Any], str]:
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=default).encode


def _named(encode: Callable[[Any], str], value: Any) -> str:
    try:
        return encode(value)
    except ValueError as error:
        if "JSON compliant" in str(error):
            raise ValueError("NaN and infinity are no JSON; give None, or leave them out") from None
        raise


encode = partial(_named, _encoder(plain))
"""A document as JSON text on one line. TypeError and ValueError for what JSON cannot hold."""
encode_filter = partial(_named, _encoder(_plain_in_filter))
"""The same of a filter."""
