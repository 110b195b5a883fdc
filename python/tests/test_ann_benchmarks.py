"""The module for ann-benchmarks (bench/ann-benchmarks), called as its runner calls it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODULE = Path(__file__).parents[2] / "bench" / "ann-benchmarks" / "vecstone"
BASE = "class BaseANN:\n    def get_batch_results(self):\n        return self.res\n"


@pytest.fixture
def algorithm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    algorithms = tmp_path / "ann" / "algorithms"
    shutil.copytree(MODULE, algorithms / "vecstone")
    (algorithms / "base").mkdir()
    (algorithms / "base" / "module.py").write_text(BASE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield import_module("ann.algorithms.vecstone.module").Vecstone
    for name in [name for name in sys.modules if name.split(".")[0] == "ann"]:
        del sys.modules[name]


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
def test_the_module_finds_what_there_is(algorithm: Any, metric: str) -> None:
    rows = np.random.default_rng(5).normal(size=(3000, 32))
    found = algorithm(metric)
    found.fit(rows)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "angular" else rows
    for recall_target, least in [(1, 1.0), (0.9, 0.85)]:
        found.set_query_arguments(recall_target)
        right = 0
        for n in range(50):
            nearest = np.argsort(((units - units[n]) ** 2).sum(axis=1))[:10]
            right += len(set(nearest) & set(found.query(rows[n], 10)))
        assert right >= least * 500
        found.batch_query(rows[:20], 10)
        assert [list(ids) for ids in found.get_batch_results()] == [list(found.query(row, 10)) for row in rows[:20]]
    folder = Path(found.folder)
    found.done()
    assert not folder.exists()
