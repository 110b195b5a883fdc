"""The attributes of a store: a JSON object of the user's, durable, seen by readers."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vecstone

ATTRS: dict[str, Any] = {"by": "a model \U0001f980", "parts": [1, 2.5, None, True], "deep": {"n": 2**70}}


def test_a_copy_that_stays(tmp_path: Path) -> None:
    with vecstone.open(tmp_path / "s", dim=2) as store:
        assert store.attrs == {} and store.snapshot().attrs == {}
        store.set_attrs(ATTRS)
        assert store.attrs == ATTRS and store.stats()["attributes"] == ATTRS
        with pytest.raises(TypeError):
            store.attrs["by"] = "another"  # type: ignore[index]
        store.attrs["parts"].append(3)
        assert store.attrs == ATTRS
        snapshot, reader = store.snapshot(), vecstone.open(tmp_path / "s", mode="r")
        store["a"] = [1, 2]
        store.compact()
        store.clear()
        store.backup(tmp_path / "copy")
        assert store.attrs == ATTRS == vecstone.open(tmp_path / "copy", mode="r").attrs
        store.set_attrs({**store.attrs, "by": "another"})
        assert store.attrs["by"] == "another"
        assert snapshot.attrs == ATTRS == reader.attrs
        assert reader.refresh() and reader.attrs["by"] == "another"
        store.set_attrs(reader.attrs)
        assert pickle.loads(pickle.dumps(store)).attrs == store.attrs
        store.set_attrs({})
        assert store.attrs == {}
    assert snapshot.attrs == ATTRS
    with vecstone.open(tmp_path / "s") as store:
        assert store.attrs == {}
        store.set_attrs({1: "keys are text"})  # type: ignore[dict-item]
    printed = subprocess.run([sys.executable, "-m", "vecstone", "info", tmp_path / "s", "--json"], capture_output=True, check=True)
    assert json.loads(printed.stdout)["attributes"] == {"1": "keys are text"}


@pytest.mark.parametrize(("attrs", "error"), [
    (None, TypeError), ("a", TypeError), ([("a", 1)], TypeError), ({"a": object()}, TypeError), ({"a": b"b"}, TypeError),
    ({"a": float("nan")}, ValueError), ({"a": "x" * 983_040}, ValueError), ({1: "a", "1": "b"}, ValueError),
])
def test_what_is_no_object_is_refused(tmp_path: Path, attrs: Any, error: type[Exception]) -> None:
    with vecstone.open(tmp_path / "s", dim=2) as store:
        store.set_attrs({"a": 1})
        with pytest.raises(error):
            store.set_attrs(attrs)
        assert store.attrs == {"a": 1}
        store.set_attrs({"a": "x" * (983_040 - 8)})
    with vecstone.open(tmp_path / "s", mode="r") as reader:
        assert len(reader.attrs["a"]) == 983_032
        with pytest.raises(vecstone.ReadOnlyError):
            reader.set_attrs({})
    for call in (lambda: store.attrs, lambda: store.set_attrs({})):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_store_that_is_still_to_be_made_has_none(tmp_path: Path) -> None:
    with vecstone.open(tmp_path / "s") as store:
        assert store.attrs == {}
        store.set_attrs({})
        with pytest.raises(ValueError, match="dim="):
            store.set_attrs({"a": 1})
        assert not (tmp_path / "s").exists()
        with vecstone.open(tmp_path / "s", dim=2) as same:
            store.set_attrs({"a": 1})
            assert same.attrs == {"a": 1}
