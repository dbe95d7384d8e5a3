"""A Parquet file with a flipped bit is read or refused; it never ends the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("pyarrow", reason="Parquet is an extra")

FLIPS = """
import collections, io
import pyarrow, pyarrow.parquet
from palm_core.errors import InputError
from palm_core.tables.read import parse_table

file = io.BytesIO()
columns = {"model": ["a", "b", "c", "d"], "x": [1.0, 2.0, 3.0, 4.0], "y": [2, 1, 4, 3]}
pyarrow.parquet.write_table(pyarrow.table(columns), file, row_group_size=2)
data = file.getvalue()
footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
ends = collections.Counter()
for place in range(footer, len(data) - 8):
    for bit in range(place % 4, 8, 4):
        broken = bytearray(data)
        broken[place] ^= 1 << bit
        try:
            parse_table(bytes(broken), ".parquet", "t.parquet")
        except InputError as error:
            assert str(error).startswith("t.parquet: ") and "\\n" not in str(error)
            ends["refused"] += 1
        else:
            ends["read"] += 1
print(dict(ends))
"""


def test_no_flipped_bit_of_the_footer_ends_the_process() -> None:
    # pyarrow's accessor of a column's metadata does, where its histogram is broken.
    done = subprocess.run([sys.executable, "-c", FLIPS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "refused" in done.stdout
    assert "read" in done.stdout
