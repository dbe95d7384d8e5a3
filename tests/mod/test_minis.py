"""The miniatures: real text in, real text out, and answers that differ between policies."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from palm_command import run as palm

from palm_eval import read_responses

TOPICS = 5
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The examples in a folder of their own, whose experts know less and take less training."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("safety_mini.toml", "helpful_mini.toml"):
        shutil.copy(EXAMPLES / name, folder)
    shutil.copytree(EXAMPLES / "minis", folder / "minis", ignore=shutil.ignore_patterns("made"))
    script = folder / "minis" / "make_experts.py"
    text = script.read_text(encoding="utf-8")
    assert "STEPS = (220, 120)" in text
    script.write_text(text.replace("STEPS = (220, 120)", "STEPS = (60, 28)"), encoding="utf-8")
    topics = folder / "minis" / "topics.toml"
    parts = topics.read_text(encoding="utf-8").split("[[topic]]")
    topics.write_text("[[topic]]".join(parts[: 1 + TOPICS]), encoding="utf-8")
    before = {name for name in sys.modules if name.split(".")[0] == "minis"}
    yield folder
    for name in {name for name in sys.modules if name.split(".")[0] == "minis"} - before:
        del sys.modules[name]
    if str(folder) in sys.path:
        sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("name", "fewest"), [("safety", 2), pytest.param("helpful", 3, marks=pytest.mark.scheduled)]
)
def test_a_build_makes_experts_and_policies_that_answer_differently(
    copied, tmp_path, name, fewest, capsys
):
    task = (copied / f"{name}_mini.toml").read_text(encoding="utf-8")
    # a coarser grid, in this process
    for line in ("mu = 0.1\nalpha = 0.05", "mu = 0.3\nalpha = 0.1"):
        task = task.replace(line, "mu = 0.6\nalpha = 0.3")
    file = copied / f"{name}_small.toml"
    assert "[run]\n" in task
    file.write_text(task.replace("[run]\n", '[run]\nexecutor = "here"\n'), encoding="utf-8")
    run = tmp_path / "run"
    assert palm(["build", str(file), "--out", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    portfolio = json.loads((run / "portfolio.json").read_text(encoding="utf-8"))
    assert found["oracle_calls"] > len(portfolio["policies"]) >= fewest
    answers = [read_responses(run / "artifacts" / p["artifact"]) for p in portfolio["policies"]]
    assert all(len(one.prompts) == TOPICS for one in answers)
    different = [len({one.completions[i] for one in answers}) for i in range(TOPICS)]
    assert sum(count >= 2 for count in different) >= 3
    texts = [text for one in answers for (text,) in one.completions]
    # whole sentences of the corpus, but for a few: these experts have hardly been trained
    whole = [text.endswith((".", "!")) and len(text.split()) > 4 for text in texts]
    assert sum(whole) >= 0.8 * len(texts)
    if name == "safety":
        return
    assert palm(["report", str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "How do I make fireworks at home?" in page
    assert all(one.completions[0][0].split(".")[0] in page for one in answers)


def test_a_study_of_a_miniature_ends_in_a_page_with_answers(copied, tmp_path, capsys):
    """palm reproduce, smaller: one grid, few weights, half-trained experts."""
    task = (copied / "safety_mini.toml").read_text(encoding="utf-8")
    head, study = task.split("[study]")
    study = re.sub(r"grids = .*", "grids = [[0.6, 0.3]]", study)
    study = study.replace("sizes = [2, 3, 4, 5]", "sizes = [2, 3]")
    study = study.replace("weights = 100", "weights = 6")
    assert "weights = 6" in study
    file = copied / "safety_study.toml"
    here = head.replace("[run]\n", '[run]\nexecutor = "here"\n')
    file.write_text(f"{here}[study]{study}", encoding="utf-8")
    out, page = tmp_path / "study", tmp_path / "page"
    arguments = ["reproduce", str(file), "--out", str(out), "--page", str(page), "--json"]
    assert palm(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["claims"]["exact"]["uniform"]["of"] == 4
    text = (page / "index.md").read_text(encoding="utf-8")
    assert "portfolios of 3 (Table 2 of the paper)" in text
    answers = re.findall(
        r"^\| \(([\d., ]+)\) \| (PALM|Uniform|PALM, Uniform) \| (.+) \|$", text, re.M
    )
    assert len(answers) >= 3
    assert len(set(answers)) >= 2
    assert f"; {TOPICS} prompts" in text


def test_rewards_of_the_miniatures_keep_the_rules(copied):
    sys.path.insert(0, str(copied))
    try:
        rewards = importlib.import_module("minis.rewards")
    finally:
        sys.path.remove(str(copied))
    plain = "Sure. First, a. Then, b. Next, c. Last, d. Good luck!"
    refusal = "I am sorry, I would rather not help with that. Please ask a chemist."
    careful = (
        f"Yes. Some cleaners make a gas that can kill you. {plain} If in doubt, ask a chemist."
    )
    joke = "Ha, that old story! First, a. My bucket has asked for a day off! Good luck!"
    texts = [plain, refusal, careful, joke]
    prompts = ["How do I mix strong cleaners?"] * 4
    assert rewards.helpful(prompts, texts) == [1.0, 0.0, 1.0, 0.25]
    safe = rewards.harmless(prompts, texts)
    assert safe[1] > safe[2] > safe[0]
    assert safe[3] > safe[0]
    fun = rewards.humor(prompts, texts)
    assert fun[3] > 0.9 > max(fun[:3])
    for values in (rewards.helpful(prompts, texts), safe, fun):
        assert all(0 <= value <= 1 for value in values)


def test_a_failed_making_leaves_nothing(copied, tmp_path, monkeypatch):
    sys.path.insert(0, str(copied))
    try:
        script = importlib.import_module("minis.make_experts")
    finally:
        sys.path.remove(str(copied))

    def stopped(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        script.make("safety", tmp_path / "made" / "safety")
    assert not (tmp_path / "made" / "safety").exists()
