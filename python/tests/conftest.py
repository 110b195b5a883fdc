from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone

DIM = 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(path: Path) -> Iterator[vecstone.Store]:
    with vecstone.open(path, dim=DIM) as store:
        yield store


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(100, DIM)).astype("float32")


def names(n: int) -> list[str]:
    return [f"id-{i}" for i in range(n)]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
