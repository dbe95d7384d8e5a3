from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import InputError, read_table

ROWS = "model,helpful,cost\nsmall,0.5,1\nlarge,0.9,10\n"


def write(folder: Path, text: str, name: str = "t.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_columns_become_objectives_and_costs_are_negated_once(tmp_path: Path) -> None:
    policies = read_table(write(tmp_path, ROWS)).policies(maximize=["helpful"], minimize=["cost"])
    assert policies.names == ("small", "large")
    assert policies.objectives == ("helpful", "cost")
    np.testing.assert_array_equal(policies.rewards, [[0.5, -1], [0.9, -10]])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_spreadsheets_write(tmp_path: Path, separator: str, bom: str, newline: str) -> None:
    text = bom + ROWS.replace(",", separator).replace("\n", newline) + newline
    file = tmp_path / "t.csv"
    file.write_bytes(text.encode())
    policies = read_table(file).policies(maximize=["helpful", "cost"])
    np.testing.assert_array_equal(policies.rewards, [[0.5, 1], [0.9, 10]])


def test_the_same_table_from_every_format(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"model": ["small", "large"], "helpful": [0.5, 0.9], "cost": [1, 10]}
    write(tmp_path, ROWS)
    write(tmp_path, ROWS.replace(",", "\t"), "t.tsv")
    write(tmp_path, json.dumps(columns), "t.json")
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    write(tmp_path, json.dumps(records), "r.json")
    np.savez(tmp_path / "t.npz", **{name: np.array(cells) for name, cells in columns.items()})
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    for name in ("t.csv", "t.tsv", "t.json", "r.json", "t.npz", "t.parquet"):
        policies = read_table(tmp_path / name).policies(maximize=["helpful"], minimize=["cost"])
        assert policies.names == ("small", "large"), name
        np.testing.assert_array_equal(policies.rewards, [[0.5, -1], [0.9, -10]], err_msg=name)


def test_a_matrix_has_numbered_columns_and_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]))
    policies = read_table(tmp_path / "t.npy").policies(maximize=["0", "1"])
    assert policies.names == ("0", "1", "2")


def test_names_come_from_the_first_column_that_is_not_numeric(tmp_path: Path) -> None:
    text = "rank,score,model,owner,cost\n1,0.5,gpt_4,me,1\n2,,1_000,me,2\n"
    table = read_table(write(tmp_path, text))
    assert table.names(besides=["cost"]) == ["gpt_4", "1_000"]


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=8))
def test_numbers_survive_being_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    text = "a,b\n" + "".join(f"{value!r},{-value!r}\n" for value in values)
    file = write(tmp_path_factory.mktemp("t"), text)
    np.testing.assert_array_equal(read_table(file).numbers("a"), values)


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("model,a,b\nx,1,2\ny,nan,3\n", {}, r"t\.csv: column 'a', line 3: 'nan' is not finite"),
        ("model,a,b\nx,1,2\ny,inf,3\n", {}, "'inf' is not finite"),
        ("model,a,b\nx,1,2\ny,n/a,3\n", {}, "'n/a' is not a number"),
        ("model,a,b\nx,1,2\ny,,3\n", {}, "an empty cell is not a number"),
        ("model,a,b\nx,1,2\ny,1_0,3\n", {}, "'1_0' is not a number"),
        ("model,a,c\nx,1,2\ny,1,3\n", {}, "no column 'b'; it has the columns model, a, c"),
        ("model,a,bb\nx,1,2\ny,1,3\n", {}, "no column 'b'; did you mean 'bb'"),
        ("model,a,a\nx,1,2\n", {}, "duplicate column 'a'"),
        ("model,,b\nx,1,2\n", {}, "column 2 has no name"),
        ("model,a,b\nx,1\n", {}, "line 2 has 2 cells, must have 3"),
        ("", {}, "the file is empty"),
        ("\n\n", {}, "the file is empty"),
        ("model,a,b\n", {}, "must have at least 2 models, has 0"),
        ("model,a,b\nx,1,2\n", {}, "must have at least 2 models, has 1"),
        ("model,a,b\nx,1,2\nx,2,1\n", {}, "line 3: duplicate name 'x', also in line 2"),
        ("model,a,b\nx,1,2\n ,2,1\n", {}, "the name is empty"),
        ('model,a,b\n"x,1,2\n', {}, "line 2"),
        ("model,a,b\nx,1,2\ny,2,1\n", {"minimize": []}, "got 'a' only"),
        ("model,a,b\nx,1,2\ny,2,1\n", {"maximize": [], "minimize": []}, "needed, got none"),
        ("model,a,b\nx,1,2\ny,2,1\n", {"minimize": ["a"]}, "duplicate objective: column 'a'"),
    ],
)
def test_bad_tables_are_refused_with_their_place(
    tmp_path: Path, text: str, arguments: dict[str, list[str]], message: str
) -> None:
    file = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_table(file).policies(**{"maximize": ["a"], "minimize": ["b"], **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"", "must be a table file ending in one of"),
        ("t.csv", b"a,b\n\xff\xfe,1\n", "must be UTF-8 text, byte 4 is not"),
        ("t.json", b"[1, 2]", "must be a list of objects or an object of lists"),
        ("t.json", b"{", "is not JSON"),
        ("t.json", b"[" * 100_000, "is not JSON"),
        ("t.json", b'{"a": [1], "b": [1, 2]}', "equal lengths, got 'a' 1, 'b' 2"),
        ("t.npy", b"nothing", "is not a NumPy file"),
        ("t.npz", b"PK\x03\x04", "is not a NumPy file"),
        ("t.parquet", b"nothing", "is not a Parquet file"),
    ],
)
def test_files_that_are_not_tables(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([[{}, {}]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="is not a NumPy file"):
        read_table(tmp_path / "t.npy")


def test_places_that_are_not_files(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(InputError, match="is a folder, must be"):
        read_table(tmp_path / "d.csv")
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none.csv")


def test_whole_numbers_beyond_floats_are_not_finite(tmp_path: Path) -> None:
    file = write(tmp_path, json.dumps({"a": [10**400, 1], "b": [1, 2]}), "t.json")
    assert math.isinf(float("1e400"))
    with pytest.raises(InputError, match="is not finite"):
        read_table(file).policies(maximize=["a", "b"])
