"""Responses on disk: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import InputError, WorkError
from palm_eval import read_responses, responses, write_responses
from palm_eval.responses import completions_of

TALK = [{"role": "user", "content": "Why?"}]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | st.lists(TEXT, max_size=2)
CONVERSATION = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT}),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_read_is_what_was_written(data):
    several = st.lists(TEXT | CONVERSATION, min_size=1, max_size=3)
    pairs = data.draw(st.lists(st.tuples(TEXT | CONVERSATION, several), max_size=5))
    prompts, completions = [p for p, _ in pairs], [c for _, c in pairs]
    names = data.draw(st.lists(st.sampled_from(["a", "b é"]), unique=True))
    columns = {name: [data.draw(JSON) for _ in pairs] for name in names}
    with TemporaryDirectory() as folder:
        file = write_responses(Path(folder) / "new" / "deep", prompts, completions, columns)
        read = read_responses(file.parent)
        assert read == read_responses(file)
    assert list(read.prompts) == prompts
    assert [list(entry) for entry in read.completions] == completions
    expected = columns if prompts else {}
    assert {name: list(values) for name, values in read.columns.items()} == expected


def test_equal_prompts_stay_apart(tmp_path):
    read = read_responses(write_responses(tmp_path, ["q", "q"], [["a", "b"], "c"]))
    assert read.completions == (("a", "b"), ("c",))


def test_lines_are_json_that_others_can_read(tmp_path):
    file = write_responses(tmp_path, [TALK], ["Größe\u2028\n"], {"truth": np.array([4.5])})
    (line,) = file.read_text("utf-8").removesuffix("\n").split("\n")
    assert json.loads(line) == {
        "prompt_index": 0, "prompt": TALK, "completion": "Größe\u2028\n", "columns": {"truth": 4.5},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], []), "completions: has 0 entries, must have 1"),
        ((["a"], [[]]), "prompt 0 has no completion"),
        ((["a"], [3]), "prompt 0 has no completion"),
        (("a", ["b"]), "prompts is of type str: must be a list"),
        ((["a", 3], ["b", "c"]), "prompt 1 is of type int: must be a string"),
        ((["a"], [["b", 3]]), "completion 1 of prompt 0 is of type int"),
        ((["a"], ["b"], {"c": [1, 2]}), "column 'c' has 2 values: must be 1"),
        ((["a"], ["b"], {"c": "x"}), "column 'c' has 1 values: must be 1"),
        ((["a"], ["b"], {"prompts": ["x"]}), "'prompts' cannot be the name of a column"),
        ((["a"], ["b"], {"c": [float("nan")]}), "prompt 0: cannot be written as JSON"),
        ((["a"], ["b"], {"c": [{1}]}), "prompt 0: cannot be written as JSON"),
        ((["a"], ["\ud800"]), "prompt 0: cannot be written as JSON"),
    ],
)
def test_refuses_to_write(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        write_responses(tmp_path, *arguments)
    assert not list(tmp_path.iterdir())


RECORD = {"prompt_index": 0, "prompt": "q", "completion": "a", "columns": {}}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([b"{"], "line 1: must be a record of a response"),
        ([b""], "line 1: must be a record"),
        ([RECORD, b"", RECORD], "line 2: must be a record"),
        ([b"[]"], "line 1: must be a record .*Expected `object`"),
        ([b"\xff"], "line 1: must be a record"),
        ([b"[" * 100_000], "line 1: must be a record"),
        ([{**RECORD, "reward": 1}], "line 1: .*unknown field `reward`"),
        ([{**RECORD, "prompt": 3}], "line 1: .*prompt"),
        ([{**RECORD, "prompt": [{"content": "x"}]}], "line 1: prompt has a message"),
        ([{**RECORD, "completion": [{"role": "user", "content": 3}]}], "line 1: completion has a"),
        ([{**RECORD, "prompt_index": 1}], "line 1: prompt_index = 1: must be 0"),
        ([RECORD, {**RECORD, "prompt_index": 2}], "line 2: prompt_index = 2: must be 0 or 1"),
        ([RECORD, {**RECORD, "prompt_index": -1}], "line 2: prompt_index = -1"),
        ([RECORD, {**RECORD, "prompt": "other"}], "line 2: .*another prompt"),
        ([RECORD, {**RECORD, "columns": {"a": 1}}], "line 2: .*other columns"),
        ([RECORD, {**RECORD, "prompt_index": 1, "columns": {"a": 1}}], "line 2: columns differ"),
        (
            [b'{"prompt_index":0,"prompt":"q","completion":"a","columns":{"a":NaN}}'],
            "line 1: must be a record",
        ),
    ],
)
def test_refuses_to_read(tmp_path, lines, message):
    written = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    file = tmp_path / "responses.jsonl"
    file.write_bytes(b"\n".join(written) + b"\n")
    with pytest.raises(InputError, match=message):
        read_responses(file)


def test_sizes_are_bounded(tmp_path, monkeypatch):
    file = write_responses(tmp_path, ["q", "r"], ["a" * 100, "b"])
    for name, most, message in (
        ("LARGEST_FILE", 100, "must be at most 100"),
        ("LARGEST_RECORD", 100, "line 1: .* bytes in one record, must be at most 100"),
        ("MOST_RECORDS", 1, "line 2: 2 completions, must be at most 1"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(responses, name, most)
            with pytest.raises(InputError, match=message):
                read_responses(file)
            with pytest.raises(InputError, match="must be at most"):
                write_responses(tmp_path / "other", ["q", "r"], ["a" * 100, "b"])
    assert not (tmp_path / "other").exists()


def test_no_file_and_no_folder(tmp_path):
    with pytest.raises(InputError, match="no such file of responses"):
        read_responses(tmp_path)
    (tmp_path / "taken").write_text("")
    with pytest.raises(WorkError, match="cannot be written"):
        write_responses(tmp_path / "taken", ["q"], ["a"])


def test_one_completion_or_several():
    assert completions_of(["a", "b", "c"], ["x", ["y", "z"], TALK]) == [["x"], ["y", "z"], [TALK]]
    assert completions_of(["a"], [[TALK, TALK]]) == [[TALK, TALK]]
