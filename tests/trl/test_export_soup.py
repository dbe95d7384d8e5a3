"""A run that `soup` really made: nothing in exporting depends on training."""

from __future__ import annotations

import json

import pytest
import tiny_models
import torch
from export_runs import make_base
from palm_command import run as palm
from peft import PeftModel
from transformers import AutoModelForCausalLM

from palm_core import Portfolio

pytest.importorskip("palm_mod", reason="soups are palm-mod's")


TASK = """
[oracle]
name = "soup"
prompts = "prompts.jsonl"
new_tokens = 12
format = "safety-alignment"
save_models = true
SOURCES

[oracle.rewards.long]
name = "length"
[oracle.rewards.short]
name = "length"
sign = -1

[grid]
mu = 1.0
alpha = 0.4
[prune]
epsilon = 0.0
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soup")
    base = make_base(folder / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    tiny_models.train(model, tiny_models.make_tokenizer(), -1, 20)
    model.save_pretrained(base)
    tiny_models.save_adapters(folder, str(base), steps=8)
    prompts = [json.dumps({"prompt": prompt}) for prompt in tiny_models.PROMPTS[:3]]
    (folder / "prompts.jsonl").write_text("\n".join(prompts) + "\n")
    given = 'base = "base"\nadapters = ["adapter-0", "adapter-1"]'
    (folder / "task.toml").write_text(TASK.replace("SOURCES", given))
    return folder


def test_adapters_of_a_soup(sources, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    assert palm(["build", str(sources / "task.toml"), "--out", str(run), "--executor", "here"]) == 0
    for to in ("vllm", "hf"):
        task = ["--task", str(sources / "task.toml")]
        assert palm(["export", str(run), "--to", to, *task]) == 0
    script = (run / "export" / "vllm" / "serve.sh").read_text()
    # two adapters of rank 4 are one of rank 8
    assert "--max-lora-rank 8" in script
    assert str(sources.resolve() / "base") in script
    readme = (run / "export" / "vllm" / "README.md").read_text()
    assert "BEGINNING OF CONVERSATION: USER: … ASSISTANT:" in readme
    tokens = torch.tensor([[0, 40, 50, 60]])
    for policy in Portfolio.load(run).policies:
        made = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(sources / "base"),
            run / "artifacts" / policy.artifact / "soup",
        )
        there = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(sources / "base"),
            run / "export" / "hf" / policy.id,
        )
        with torch.no_grad():
            assert torch.equal(made(tokens).logits, there(tokens).logits)
    capsys.readouterr()


def test_a_soup_that_was_not_saved(sources, tmp_path, capsys):
    task = (sources / "task.toml").read_text().replace("save_models = true\n", "")
    (sources / "unsaved.toml").write_text(task)
    run = tmp_path / "run"
    arguments = [str(sources / "unsaved.toml"), "--out", str(run), "--executor", "here"]
    assert palm(["build", *arguments]) == 0
    capsys.readouterr()
    assert palm(["export", str(run), "--to", "vllm"]) == 2
    said = capsys.readouterr().err
    assert "its artifact has no model" in said
    assert "save_models = true" in said
