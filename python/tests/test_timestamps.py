"""One text for a point in time, wherever it comes from; filters compare such texts as the points in time compare."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecstone
from conftest import DIM, names

UTC = dt.UTC
START = dt.datetime(2020, 1, 1, tzinfo=UTC)
MOMENTS = [START + dt.timedelta(microseconds=us) for us in (0, 1, 500_000, 500_001, 999_999, 1_000_000)]
TEXTS = [f"2020-01-01T00:00:0{text}+00:00"
         for text in ("0.000000", "0.000001", "0.500000", "0.500001", "0.999999", "1.000000")]


def put(store: vecstone.Store, values: Any) -> None:
    store.put_many(names(len(values)), np.ones((len(values), DIM)), [{"t": value} for value in values])


def texts(store: vecstone.Store) -> list[Any]:
    return [document["t"] for document in store.get_documents(list(store))]


def test_datetimes_of_python(store: vecstone.Store) -> None:
    put(store, MOMENTS)
    assert texts(store) == TEXTS == sorted(TEXTS) and [dt.datetime.fromisoformat(text) for text in TEXTS] == MOMENTS
    east = dt.timezone(dt.timedelta(hours=5, minutes=30))
    put(store, [moment.astimezone(east) for moment in MOMENTS])
    assert texts(store) == TEXTS
    put(store, [moment.replace(tzinfo=None) for moment in MOMENTS])
    assert texts(store) == [text.removesuffix("+00:00") for text in TEXTS]
    put(store, [dt.date(2020, 1, 1), dt.datetime(1, 1, 1, tzinfo=UTC), dt.datetime.max.replace(tzinfo=UTC)])
    assert [document["t"] for document in store.get_documents(names(3))] == [
        "2020-01-01", "0001-01-01T00:00:00.000000+00:00", "9999-12-31T23:59:59.999999+00:00",
    ]


def test_filters_at_the_boundaries(store: vecstone.Store) -> None:
    put(store, MOMENTS)
    ids = names(len(MOMENTS))
    for n, moment in enumerate(MOMENTS):
        for same in (moment, moment.astimezone(dt.timezone(dt.timedelta(hours=-8)))):
            assert store.ids_where({"t": same}) == store.ids_where({"t": {"$in": {same}}}) == [ids[n]]
            assert store.ids_where({"t": {"$gt": same}}) == ids[n + 1 :]
            assert store.ids_where({"t": {"$gte": same}}) == ids[n:]
            assert store.ids_where({"t": {"$lt": same}}) == ids[:n]
            assert store.ids_where({"t": {"$lte": same}}) == ids[: n + 1]
        assert store.ids_where({"t": moment.replace(tzinfo=None)}) == []
    assert store.ids_where({"t": {"$gte": "2020-01-01T00:00:01"}}) == ids[5:]
    assert store.delete_where({"t": {"$lt": MOMENTS[2]}}) == 2


def test_numbers_of_numpy(store: vecstone.Store) -> None:
    units: list[tuple[Any, str]] = [("s", "00.000000"), ("ms", "00.005000"), ("us", "00.000005"), ("ns", "00.000000005"), ("D", "00.000000")]
    for unit, text in units:
        put(store, [np.datetime64("2020-01-01", unit) + (5 if unit not in "sD" else 0)])
        assert texts(store) == [f"2020-01-01T00:00:{text}"]
    wrong = (np.datetime64("NaT"), np.datetime64("-0001", "Y"), np.datetime64("10000", "Y"), np.datetime64(1, "ps"))
    for value in wrong:
        with pytest.raises(ValueError, match="document of row 0: "):
            put(store, [value])


def test_what_is_no_point_in_time(store: vecstone.Store) -> None:
    far = dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-1)))
    with pytest.raises(ValueError, match="document of row 1: .*years 1 to 9999"):
        put(store, [START, far])
    with pytest.raises(ValueError, match="^filter: .*years 1 to 9999"):
        store.ids_where({"t": {"$lt": far}})
    for value in (dt.time(1), dt.timedelta(1)):
        with pytest.raises(TypeError, match="JSON"):
            put(store, [value])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_one_text_whatever_the_source(tmp_path: Path, unit: str) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    moments = [MOMENTS[0], MOMENTS[5]] if unit == "s" else [MOMENTS[0], MOMENTS[2]] if unit == "ms" else MOMENTS
    n = len(moments)
    rows: dict[str, Any] = {"id": names(n), "vector": [[1.0] * DIM] * n}
    table = pa.table({**rows, "t": pa.array(moments, pa.timestamp(unit, "Asia/Tokyo"))})
    pq.write_table(table, tmp_path / "t.parquet")
    frame = pd.DataFrame({**rows, "t": pd.Series(moments).astype(f"datetime64[{unit}, UTC]")})
    sources: list[Any] = [
        table, tmp_path / "t.parquet", iter([table]), frame, {**rows, "t": frame["t"]}, {**rows, "t": moments},
        {**rows, "t": table["t"]}, [dict(zip(("id", "vector", "t"), row)) for row in zip(rows["id"], rows["vector"], moments)],
    ]
    if unit != "s":
        sources.append(pl.DataFrame(rows).with_columns(pl.Series("t", moments).cast(pl.Datetime(unit, "UTC"))))
    with vecstone.open(tmp_path / "s") as store:
        for source in sources:
            assert vecstone.ingest(store, source, document_columns=["t"], resume=False).written == n
            assert [dt.datetime.fromisoformat(text) for text in texts(store)] == moments
            assert set(texts(store)) <= set(TEXTS)
            # What stands there is what a resumed call finds.
            again = frame if source is sources[-1] else sources[-1]
            assert vecstone.ingest(store, again, document_columns=["t"]) == (n, 0, n, 0)
        naive = pa.table({**rows, "t": pa.array([moment.replace(tzinfo=None) for moment in moments], pa.timestamp(unit))})
        vecstone.ingest(store, naive, document_columns=["t"])
        assert texts(store) == [TEXTS[MOMENTS.index(moment)].removesuffix("+00:00") for moment in moments]


def test_nanoseconds_have_nine_digits(tmp_path: Path) -> None:
    pa, pd = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    stamps = [pd.Timestamp("2020-01-01", tz="UTC") + pd.Timedelta(ns, "ns") for ns in (0, 1, 1000, 1001)]
    rows: dict[str, Any] = {"id": names(4), "vector": [[1.0] * DIM] * 4}
    for n, source in enumerate((pd.DataFrame({**rows, "t": stamps}), {**rows, "t": stamps},
                                pa.table({**rows, "t": pa.array(stamps, pa.timestamp("ns", "UTC"))}))):
        with vecstone.open(tmp_path / f"{n}") as store:
            vecstone.ingest(store, source, document_columns="t")
            ends = ("00.000000", "00.000000001", "00.000001", "00.000001001")
            assert texts(store) == [f"2020-01-01T00:00:{end}+00:00" for end in ends] == sorted(texts(store))
            for n, stamp in enumerate(stamps):
                assert store.ids_where({"t": {"$gte": stamp}}) == names(4)[n:]
    with vecstone.open(tmp_path / "none") as store, pytest.raises(ValueError, match="NaT is no point in time"):
        put(store, [pd.NaT])


def test_years_that_no_text_has(store: vecstone.Store) -> None:
    pa = pytest.importorskip("pyarrow")
    seconds = [0, 253_402_300_800]
    rows: dict[str, Any] = {"id": names(2), "vector": [[1.0] * DIM] * 2}
    for zone in (None, "UTC"):
        table = pa.table({**rows, "t": pa.array(seconds, pa.timestamp("s", zone))})
        with pytest.raises(ValueError, match='column "t", row 1: .*years 1 to 9999'):
            vecstone.ingest(store, table, document_columns=["t"])
