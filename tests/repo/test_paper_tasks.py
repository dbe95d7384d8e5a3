"""The paper's three tasks as task files: true to its numbers, and plans that can be made."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from palm_core import grid_size
from palm_core.plugin import load_task, load_task_oracle
from palm_eval.paper.claims import published
from palm_eval.paper.study import study_of

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "examples" / "paper"
#: task → objectives of the paper, prompts that are measured on
TOLD = {
    "rlvr_gsm": (("brevity", "helpfulness"), None),
    "safety_alignment": (("better", "safe"), 200),
    "helpful_assistants": (("helpfulness", "harmlessness", "humor"), 100),
}


@pytest.fixture(params=list(TOLD))
def task(request, tmp_path):
    """A task of the paper with prompts that somebody made up."""
    copied = tmp_path / "paper"
    shutil.copytree(TASKS, copied)
    words = "why is the sky blue at noon and red at night"
    row = {"ground_truth": "2", "dataset": "gsm8k"}
    rlvr = {"messages": [{"role": "user", "content": words}], **row}
    for name in ("rlvr-train", "rlvr-gsm-test"):
        (copied / f"{name}.jsonl").write_text((json.dumps(rlvr) + "\n") * 300, encoding="utf-8")
    for name in ("safe-rlhf", "hh-rlhf"):
        lines = [json.dumps({"prompt": f"{words} {n}"}) + "\n" for n in range(300)]
        (copied / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return copied / f"{request.param}.toml"


def test_a_study_asks_what_the_paper_asked(task):
    asked = load_task(task)
    study = study_of(asked, task.stem)
    objectives, _ = TOLD[task.stem]
    told = published(study.published)
    assert study.sizes == tuple(told.quality)
    calls = {grid_size(len(objectives), *grid) for grid in study.grids}
    assert calls == (set(told.budgets) or {17})  # RLVR-GSM: where the paper prints 13
    for row in told.prunings:
        above, below = row.mu.split("/")
        near = [mu for mu, _ in study.grids if abs(mu - int(above) / int(below)) < 1e-12]
        assert near, row.mu
    assert (
        study.weights
        == {"rlvr_gsm": 15, "safety_alignment": 100, "helpful_assistants": 200}[task.stem]
    )
    assert asked.settings.pruning.normalize == "minmax"
    assert asked.settings.pruning.method == "greedy"


def test_a_dry_run_checks_all_but_the_weights(task):
    oracle = load_task_oracle(load_task(task))
    objectives, prompts = TOLD[task.stem]
    assert oracle.objectives == objectives
    if prompts is not None:
        assert len(oracle.asked.texts) == prompts
    else:
        assert (oracle.beta, oracle.steps, oracle.new_tokens) == (0.01, 208, 256)
        told = oracle.options
        each = told["per_device_train_batch_size"] * told["gradient_accumulation_steps"]
        assert each * oracle.processes == 48 * told["num_generations"]
        assert (told["learning_rate"], told["scale_rewards"]) == (5e-7, "group")
    estimate = oracle.estimate(17)
    assert "Qwen2.5-3B" in estimate["downloads"] or "GB" in estimate["downloads"] or prompts == 100


def test_prompts_are_read_as_their_data_sets_have_them():
    sys.path.insert(0, str(TASKS))
    try:
        import prompts
    finally:
        sys.path.remove(str(TASKS))
    pairs = [{"prompt": "a", "x": 1}, {"prompt": "a", "x": 2}, {"prompt": "b", "x": 3}]
    assert list(prompts.asked(pairs)) == [{"prompt": "a"}, {"prompt": "b"}]
    said = "\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: Why?\n\nAssistant: So."
    found = list(prompts.dialogues([{"chosen": said}, {"chosen": "no dialogue"}]))
    assert found == [{"prompt": "\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: Why?\n\nAssistant:"}]
    row = {"messages": [], "ground_truth": "1", "dataset": "MATH", "constraint": None}
    assert list(prompts.rlvr([row])) == [{"messages": [], "ground_truth": "1", "dataset": "MATH"}]
    assert set(prompts.SOURCES) == {name.replace("_", "-") for name in TOLD}


def test_every_miniature_has_the_paper_beside_it():
    for name, told in (
        ("gsm_mini", "rlvr-gsm"),
        ("safety_mini", "safety-alignment"),
        ("helpful_mini", "helpful-assistants"),
    ):
        content = tomllib.loads((ROOT / "examples" / f"{name}.toml").read_text(encoding="utf-8"))
        assert content["study"]["published"] == told
        assert tuple(content["study"]["sizes"]) == tuple(published(told).quality)


def test_without_arguments_the_script_says_what_it_does():
    ran = subprocess.run(
        [sys.executable, str(TASKS / "prompts.py")], capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert re.search(r"Usage: python prompts.py rlvr-gsm", ran.stderr)
