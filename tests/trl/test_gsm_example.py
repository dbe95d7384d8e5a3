"""examples/gsm_mini.toml: its questions, model and rewards, and a build from end to end."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from palm_command import run as palm

from palm_core import Portfolio, grid_size
from palm_core.plugin import load_task
from palm_eval import read_responses
from palm_eval.testing import check_reward
from palm_trl import Measurement

EXAMPLES = Path(__file__).parents[2] / "examples"
#: What is smaller here.
SMALLER = {
    "gsm_mini.toml": {
        "steps = 150\n": 'steps = 4\nlauncher = "here"\n',
        "samples = 8 ": "samples = 2 ",
        "mu = 0.4 ": "mu = 1.0 ",
        "alpha = 0.2": "alpha = 1.0",
        "threads = 1 ": 'threads = 1\nexecutor = "here" ',
    },
    "gsm/make_model.py": {
        "STEPS = 800": "STEPS = 120",
        '{"test": 64, "train": 512}': '{"test": 8, "train": 40}',
    },
}


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example in a folder of its own, where everything is smaller; its modules."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(EXAMPLES / "gsm_mini.toml", folder)
    shutil.copytree(EXAMPLES / "gsm", folder / "gsm", ignore=shutil.ignore_patterns("made", "_*"))
    for name, changes in SMALLER.items():
        text = (folder / name).read_text(encoding="utf-8")
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
    before = {name for name in sys.modules if name.split(".")[0] == "gsm"}
    assert not before
    sys.path.insert(0, str(folder))
    found = SimpleNamespace(
        folder=folder,
        task=folder / "gsm_mini.toml",
        make_model=importlib.import_module("gsm.make_model"),
        rewards=importlib.import_module("gsm.rewards"),
    )
    yield found
    sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
    for name in [name for name in sys.modules if name.split(".")[0] == "gsm"]:
        del sys.modules[name]


def asked_and_done(text):
    """The answer to a question, worked out by its words."""
    first, second, verb, third = re.fullmatch(
        r"\w+ has (\d+) \w+, finds (\d+) and (loses|buys) (\d+)\. How many now\?", text
    ).groups()
    return int(first) + int(second) + (int(third) if verb == "buys" else -int(third))


def test_questions_are_right_and_different(example):
    make_model = example.make_model
    files = make_model.questions(seed=0)
    assert {name: len(rows) for name, rows in files.items()} == make_model.QUESTIONS
    rows = [row for several in files.values() for row in several]
    assert len({row["prompt"] for row in rows}) == len(rows)
    words = make_model.tokenizer()
    for row in rows:
        assert asked_and_done(row["prompt"]) == int(row["ground_truth"]) >= 0
        for left, right in re.findall(r"(\d+ [-+] \d+) = (\d+)", row["solution"]):
            assert eval(left) == int(right)
        for text in (make_model.FORMAT.format(**row), make_model.answer(row, 3)):
            ids = words(text)["input_ids"]
            assert words.unk_token_id not in ids
            assert words.decode(ids) == text


def test_rewards_pull_apart_and_cannot_be_had_by_rambling(example):
    row = {
        "prompt": "Ann has 3 pens, finds 4 and loses 2. How many now?",
        "ground_truth": "5",
        "solution": "3 + 4 = 7. 7 - 2 = 5. So Ann has 5 now.",
    }
    said = [example.make_model.answer(row, style) for style in range(4)]
    assert said[0] == " #### 5"
    assert said[2] == " 3 + 4 = 7. 7 - 2 = 5. #### 5"
    solution, truth = [row["solution"]] * 4, [row["ground_truth"]] * 4
    helpful = example.rewards.helpfulness([row["prompt"]] * 4, said, solution)
    assert helpful == [0, 0.5, 0.8, 1.0]
    words = example.make_model.tokenizer()
    ids = [words(f"{text}</s>")["input_ids"] for text in said]
    brevity = load_task(EXAMPLES / "gsm_mini.toml").options["rewards"]["brevity"]
    from palm_eval import load_reward

    options = {name: value for name, value in brevity.items() if name != "name"}
    brief = load_reward("brevity", **options)(
        [""] * 4, said, completion_ids=ids, ground_truth=truth
    )
    assert brief == [1 - len(one) / 24 for one in ids]
    assert [len(one) for one in ids] == [3, 9, 15, 21]
    bad = [
        row["solution"] * 3,  # no end
        " 3 + 4 = 7. #### 5 and so on",
        " 3 + 5 = 8. 8 - 2 = 6. So Ann has 6 now. #### 6",
        "",
    ]
    assert example.rewards.helpfulness([row["prompt"]] * 4, bad, solution) == [0] * 4
    given = {"prompts": [row["prompt"]] * 8, "completions": [*said, *bad]}
    rules = {"solution": [row["solution"]] * 8}
    values = check_reward(example.rewards.helpfulness, columns=rules, **given).values
    assert list(values) == [*helpful, 0, 0, 0, 0]


def test_a_failed_making_leaves_nothing(example, tmp_path, monkeypatch):
    def stopped(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(example.make_model, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        example.make_model.make(tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_as_many_calls_as_the_paper_reports():
    task = load_task(EXAMPLES / "gsm_mini.toml")
    found = task.resolved()
    assert grid_size(2, found["grid"]["mu"], found["grid"]["alpha"]) == 13


def test_a_build_makes_the_model_and_policies_and_a_report(example, tmp_path, capsys):
    run = tmp_path / "run"
    assert palm(["build", str(example.task), "--out", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["oracle_calls"] == 3
    assert 0 < found["certificate"]["delta"] < 1
    made = example.folder / "gsm" / "made"
    asked = {
        name: [json.loads(line) for line in (made / f"{name}.jsonl").read_text().splitlines()]
        for name in ("test", "train")
    }
    artifacts = sorted((run / "artifacts").iterdir())
    assert [one.name for one in artifacts] == ["w0-1", "w0.5-0.5", "w1-0"]
    moved = []
    for one in artifacts:
        answers = read_responses(one)
        assert list(answers.prompts) == [row["prompt"] for row in asked["test"]]
        measured = Measurement.load(one / "measurement.json")
        assert measured.objectives == ("brevity", "helpfulness")
        assert measured.rewards.shape == (8, 2, 2)
        assert 0 <= measured.rewards.min() <= measured.rewards.max() <= 1
        moved.append(measured.mean_kl > 0)
        lines = (one / "training.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
        assert (one / "adapter_model.safetensors").is_file()
    assert any(moved)
    portfolio = Portfolio.load(run)
    assert portfolio.certificate.delta == pytest.approx(found["certificate"]["delta"])
    assert palm(["report", str(run)]) == 0
    assert asked["test"][0]["prompt"] in (run / "report.html").read_text(encoding="utf-8")
