"""Runs whose policies are tiny random models: nothing is trained."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import tiny_models
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from palm_core import Policy, build_portfolio
from palm_core.plugin import weight_id, write_artifact

OBJECTIVES = ("brevity", "helpfulness")
TASK = {
    "oracle": {
        "name": "grpo",
        "model": "base",
        "format": "chat",
        "system": "It's brief.",
        "temperature": 0.7,
        "new_tokens": 24,
        "preset": "objective",
        "trainer": {"learning_rate": 2e-3},
    },
    "run": {"seed": 5},
}
INFO = {
    "oracle": "grpo",
    "algorithm": "grpo",
    "preset": "objective",
    "beta": 0.04,
    "steps": 60,
    "kl": 1.25,
    "kl_k1": 1.3,
    "cut_off": 0.0,
    "start": None,
}


def make_base(folder: Path) -> Path:
    tokenizer = tiny_models.make_tokenizer()
    model = tiny_models.new_model("llama", len(tokenizer))
    tiny_models.save_model(folder, model, tokenizer)
    return folder


class RandomModels:
    """For weights w the policy w/‖w‖, the best on a quarter of a circle; its model is random."""

    objectives = OBJECTIVES
    epsilon, delta = 0.0, 0.0

    def __init__(self, base, folder, *, kind, change, info, below, prefix, link):
        self.base, self.folder, self.kind = base, folder, kind
        self.change, self.info, self.below = change, info, below
        self.prefix, self.link = prefix, link
        self.tokenizer = AutoTokenizer.from_pretrained(base)

    def solve(self, weights):
        for row in weights:
            name = weight_id(row)
            with write_artifact(self.folder, name) as folder:
                (folder / "responses.jsonl").write_text('{"prompt": "a", "responses": ["b"]}\n')
                (folder / "training.jsonl").write_text('{"step": 1}\n')
                if self.kind != "none":
                    self.save(folder, int(1000 * row[0]))
            yield Policy(
                id=f"{self.prefix}{name}",
                weights=row,
                rewards=row / np.linalg.norm(row),
                reward_errors=np.array([0.01, 0.01]),
                artifact=name,
                info=self.info,
            )

    def save(self, folder, seed):
        torch.manual_seed(seed)
        self.tokenizer.save_pretrained(folder)
        place = folder / self.below if self.below else folder
        if self.kind == "full":
            model = random_model(self.base)
            torch.nn.init.normal_(model.lm_head.weight)
            model.save_pretrained(place)
            return
        adapter = blank_adapter(self.base)
        place.mkdir(exist_ok=True)
        config = json.loads((adapter / "adapter_config.json").read_text())
        (place / "adapter_config.json").write_text(json.dumps({**config, **self.change}))
        weights = load_file(adapter / "adapter_model.safetensors")
        drawn = {name: torch.randn_like(tensor) for name, tensor in weights.items()}
        save_file(drawn, place / "adapter_model.safetensors", metadata={"format": "pt"})
        if self.link:
            (folder / "tokenizer_config.json").unlink()
            (folder / "tokenizer_config.json").symlink_to(self.link)


@cache
def random_model(base: Path):
    return AutoModelForCausalLM.from_pretrained(base)


@cache
def blank_adapter(base: Path) -> Path:
    """An adapter as peft saves it, beside the base."""
    folder = base.with_name("adapter")
    wanted = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), wanted).save_pretrained(folder)
    return folder


def make_run(
    run: Path,
    base: Path,
    *,
    kind="adapter",
    change=None,
    info=None,
    below="",
    prefix="",
    link=None,
    options=None,
) -> Path:
    """A run of RandomModels with a portfolio of a few of its policies."""
    told = {**INFO, **({"base": "org/made-up"} if kind == "full" else {}), **(info or {})}
    oracle = RandomModels(
        base,
        run / "artifacts",
        kind=kind,
        change=change or {},
        info=told,
        below=below,
        prefix=prefix,
        link=link,
    )
    task = {**TASK, "oracle": options or TASK["oracle"]}
    build_portfolio(oracle, mu=1.0, alpha=0.3, prune_mu=0.02, run_dir=run, task=task)
    return run
