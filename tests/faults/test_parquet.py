"""Tables in Parquet that are damaged, hostile, or far too large: each ends in one line, and nothing is written."""

import datetime
import decimal
import io
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from support.attacks import within
from support.batches import check_refused, write_one_copy
from wuerstchen_nodes.headless.batch.rows.table import read_table
from wuerstchen_nodes.headless.errors import UsageError


@pytest.fixture(autouse=True)
def copying() -> None:
    write_one_copy()


def as_parquet(columns: dict[str, Any], **options: Any) -> bytes:
    """Return a table in Parquet."""
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def column(value: Any, kind: Any = None) -> bytes:
    """Return a table in Parquet of one cell."""
    return as_parquet({"Load Image.image": pa.array([value], kind)})


def twice() -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["id", "id"]), buffer)
    return buffer.getvalue()


def not_utf8() -> pa.Array:
    return pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())


MOMENT = datetime.datetime(2026, 1, 1)
PLAIN = {"use_dictionary": False, "write_statistics": False}
GOOD = {"id": ["a"], "Load Image.image": ["1.png"]}
PARQUET: dict[str, Callable[[], bytes]] = {
    "a timestamp of ns": lambda: column(1_700_000_000_000_000_001, pa.timestamp("ns")),
    "a timestamp of us": lambda: column(MOMENT, pa.timestamp("us")),
    "a timestamp of the year 300000": lambda: column(2**62, pa.timestamp("us")),
    "a timestamp of the year -300000": lambda: column(-(2**62), pa.timestamp("ms")),
    "an unknown time zone": lambda: column(1, pa.timestamp("us", tz="Nowhere/Land")),
    "a wrong time zone": lambda: column(1, pa.timestamp("us", tz="+99:99")),
    "a date": lambda: column(1, pa.date32()),
    "a date of the year 300000": lambda: column(2**30, pa.date32()),
    "a duration of ns": lambda: column(1, pa.duration("ns")),
    "a time of ns": lambda: column(1, pa.time64("ns")),
    "a decimal": lambda: column(decimal.Decimal("1.5"), pa.decimal128(10, 2)),
    "a large decimal": lambda: column(decimal.Decimal("1e60"), pa.decimal256(70, 2)),
    "bytes": lambda: column(b"\xff", pa.binary()),
    "bytes of a fixed size": lambda: column(b"ab", pa.binary(2)),
    "half a number": lambda: column(np.float16(1.5), pa.float16()),
    "a list": lambda: column(["a"], pa.list_(pa.string())),
    "a list of lists": lambda: column([[["a"]]]),
    "an object": lambda: column({"a": 1}),
    "a map": lambda: column([("a", 1)], pa.map_(pa.string(), pa.int64())),
    "a dictionary of bytes": lambda: as_parquet({"id": pa.array([b"a"]).dictionary_encode()}),
    "text that is not UTF-8": lambda: as_parquet({"id": ["a"], "Load Image.image": not_utf8()}),
    "an id that is not UTF-8": lambda: as_parquet({"id": not_utf8()}),
    "ids of null": lambda: as_parquet({**GOOD, "id": pa.array([None], pa.null())}),
    "cells of null alone": lambda: as_parquet({"nothing": pa.array([None], pa.null())}),
    "a column twice": twice,
    "no columns": lambda: as_parquet({}),
    "no rows": lambda: as_parquet({"id": pa.array([], pa.string())}),
    "a column with a null character": lambda: as_parquet({"id\0": ["a"]}),
    "a column without a name": lambda: as_parquet({"": ["a"]}),
    "a long column": lambda: as_parquet({"x" * 90_000: ["a"]}),
    "many columns": lambda: as_parquet({str(number): [1] for number in range(2000)}),
    "many rows": lambda: as_parquet({"id": pa.nulls(10_000_000, pa.string())}),
    "many rows of numbers": lambda: as_parquet({"id": pa.repeat(1, 10_000_000)}),
    "a large text in few bytes": lambda: as_parquet({"id": ["x" * 150_000_000]}, compression="zstd", **PLAIN),
    "a text a thousand times": lambda: as_parquet({**{f"c{i}": pa.repeat("x" * 90_000, 1000) for i in range(5)}}),
    "a long text in few bytes": lambda: as_parquet({"id": ["a"], "Load Image.image": ["x" * 200_000]}),
    "the same id twice": lambda: as_parquet({"id": ["a", "a"]}),
    "ids that differ in case": lambda: as_parquet({"id": ["a", "A"]}),
    "an id that leads out": lambda: as_parquet({"id": ["../a"]}),
    "a null character": lambda: as_parquet({"id": ["a\0b"]}),
    "an unknown column": lambda: as_parquet({"id": ["a"], "imag": ["1.png"]}),
    "JSON": lambda: b'{"id": 1}',
    "nothing": lambda: b"",
    "the mark alone": lambda: b"PAR1",
    "the mark twice": lambda: b"PAR1PAR1",
    "a description of 4 GB": lambda: b"PAR1" + b"\xff\xff\xff\xff" + b"PAR1",
    "a negative description": lambda: b"PAR1" + b"\x00" * 50 + b"\x00\x00\x00\x80" + b"PAR1",
    "an encrypted file": lambda: b"PARE" + as_parquet(GOOD)[4:-4] + b"PARE",
    "only zeros": lambda: b"\0" * 100_000,
}


@pytest.mark.parametrize("make", PARQUET.values(), ids=PARQUET)
def test_damaged_parquet_is_refused(attack, make):
    Path("t.parquet").write_bytes(make())
    check_refused(attack, "t.parquet")


def read_all(contents: Iterable[bytes], name: str) -> tuple[int, int]:
    """Read damaged tables; return how many were read, and how many were refused."""
    good = refused = 0
    for content in contents:
        Path(name).write_bytes(content)
        try:
            with within():
                read_table(Path(name))
            good += 1
        except UsageError as error:
            assert 0 < len(str(error)) < 5000
            refused += 1
    return good, refused


def varint(value: int) -> bytes:
    """Return a number as Thrift writes it."""
    digits = [2 * value]
    while digits[-1] > 127:
        digits[-1:] = [digits[-1] & 127 | 128, digits[-1] >> 7]
    return bytes(digits)


def test_parquet_whose_description_understates_a_page_is_not_unpacked(attack):
    """A few kilobytes unpack to 150 MB, and only the page itself says so."""
    whole = as_parquet({"id": ["x" * 150_000_000]}, compression="zstd", **PLAIN)
    foot = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    size = varint(parquet.read_metadata(io.BytesIO(whole)).row_group(0).total_byte_size)
    small = bytes([0x80 | 20, *[0x80] * (len(size) - 2), 0])
    assert size in whole[foot:]
    Path("t.parquet").write_bytes(whole[:foot] + whole[foot:].replace(size, small))
    assert "larger than 128 MiB, unpacked" in check_refused(attack, "t.parquet")


def test_parquet_whose_texts_repeat_the_one_before_is_not_unpacked(attack):
    rows = {"id": [f"{'x' * 90_000}{number}" for number in range(1000)]}
    Path("t.parquet").write_bytes(as_parquet(rows, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY"))
    assert "DELTA_BYTE_ARRAY" in check_refused(attack, "t.parquet")


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_parquet_of_every_kind_is_read(version, compression):
    rows = {"id": [str(number) for number in range(5000)], "n": range(5000), "x": [None, *[0.5] * 4999]}
    columns = {name: list(values) for name, values in rows.items()}
    options = {"data_page_version": version, "compression": compression, "data_page_size": 1000, "row_group_size": 900}
    for dictionary in (True, False):
        Path("t.parquet").write_bytes(as_parquet(columns, use_dictionary=dictionary, **options))
        table = read_table(Path("t.parquet"))
        assert [row.get("x") for row in table.rows] == columns["x"]
        assert [(row["id"], row["n"]) for row in table.rows] == list(zip(columns["id"], columns["n"], strict=True))


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_parquet_that_is_cut_anywhere_is_refused(tried, compression):
    whole = as_parquet(GOOD, compression=compression)
    cuts = range(0, len(whole), 7)
    assert read_all((whole[:cut] for cut in cuts), "t.parquet") == (0, len(cuts))
    tried(len(cuts))


def test_parquet_with_wrong_bytes_is_read_or_refused(tried):
    whole = as_parquet({"id": ["a", "b"], "n": [1, 2], "x": [0.5, None], "c": pa.array(["x", "x"]).dictionary_encode()})
    chance = random.Random(5)
    damaged = []
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        damaged.append(bytes(content))
    good, refused = read_all(damaged, "t.parquet")
    assert good > 20 and refused > 20
    tried(400)
