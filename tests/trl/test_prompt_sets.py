"""Prompts from files, folders and the hub, in TRL's layout and RLVR's."""

from __future__ import annotations

import json

import datasets
import pytest

from palm_core import InputError
from palm_trl import PromptSet

TRL = [{"prompt": f"{n} + {n}?", "ground_truth": str(2 * n)} for n in range(5)]
RLVR = [
    {
        "messages": [
            {"role": "system", "content": "Be right."},
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": "I do not know."},
        ],
        "ground_truth": row["ground_truth"],
        "dataset": "gsm8k",
    }
    for row in TRL
]


def written(folder, kind, rows):
    """``rows`` in a file or folder of ``kind``; its name."""
    made = datasets.Dataset.from_list(rows)
    path = folder / f"prompts.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == "csv":
        made.to_csv(str(path))
    elif kind == "parquet":
        made.to_parquet(str(path))
    elif kind == "saved":
        made.save_to_disk(str(path))
    elif kind == "splits":
        datasets.DatasetDict({"test": made}).save_to_disk(str(path))
    else:
        path.mkdir()
        made.to_parquet(str(path / "test-00000.parquet"))
    return path.name


# datasets before 5.2 leaves it to the garbage collector to close a CSV file
@pytest.mark.filterwarnings("ignore:Exception ignored in.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "saved", "splits", "folder"])
def test_it_is_the_same_from_anywhere(tmp_path, kind):
    split = "test" if kind in ("splits", "folder") else "train"
    given = {"path": written(tmp_path, kind, TRL), "split": split, "skip": 1, "first": 3}
    found = PromptSet.of(given, "prompts").read(tmp_path, "prompts")
    assert found.texts == ("1 + 1?", "2 + 2?", "3 + 3?")
    # a table of numbers does not keep that they were text
    assert [str(value) for value in found.columns["ground_truth"]] == ["2", "4", "6"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rlvr_asks_by_its_messages(tmp_path, kind):
    found = PromptSet.of(written(tmp_path, kind, RLVR), "prompts").read(tmp_path, "prompts")
    assert found.texts[2] == [
        {"role": "system", "content": "Be right."},
        {"role": "user", "content": "2 + 2?"},
    ]
    assert found.columns == {
        "ground_truth": tuple(row["ground_truth"] for row in TRL),
        "dataset": ("gsm8k",) * 5,
    }


def test_the_first_of_all_can_be_asked_for(tmp_path):
    given = PromptSet.of({"path": written(tmp_path, "jsonl", TRL), "first": 2}, "evaluation")
    assert len(given.read(tmp_path, "evaluation").texts) == 2
    assert len(given.read(tmp_path, "evaluation", first=4).texts) == 4
    with pytest.raises(InputError, match=r"prompts.jsonl: 5 prompts, must have 9 after skip = 0"):
        given.read(tmp_path, "evaluation", first=9)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "1?"}], 'row 0: must have "prompt", or "messages" as RLVR has; has \'que'),
        (
            [{"messages": [{"role": "assistant", "content": "1"}]}],
            "row 0: messages must have at least one of",
        ),
        ([{"prompt": 3}], "row 0: prompt is of type int"),
    ],
)
def test_a_row_without_a_question_is_named(tmp_path, rows, said):
    given = PromptSet.of(written(tmp_path, "parquet", rows), "prompts")
    with pytest.raises(InputError, match=said) as refused:
        given.read(tmp_path, "prompts")
    assert str(refused.value).startswith("prompts = 'prompts.parquet'")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a"], r"prompts = \['a'\]: must be a file"),
        ({}, r"prompts = \{\}: must be a file"),
        ({"path": "a", "splits": "b"}, "prompts.splits: unknown, must be one of path, name"),
        ({"path": "a", "first": 0}, "prompts.first = 0: must be"),
        ({"path": "a", "skip": -1}, "prompts.skip = -1: must be"),
        ({"path": "a", "split": ""}, "prompts.split = '': must be text"),
    ],
)
def test_what_it_refuses(given, said):
    with pytest.raises(InputError, match=said):
        PromptSet.of(given, "prompts")


@pytest.mark.parametrize("path", ["nobody/nothing", "missing.jsonl", "missing.parquet"])
def test_what_is_not_there_is_named(tmp_path, path):
    with pytest.raises(InputError) as refused:
        PromptSet.of(path, "evaluation").read(tmp_path, "evaluation")
    assert path in str(refused.value)
    assert "\n" not in str(refused.value)
