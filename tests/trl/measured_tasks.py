"""Tasks of the oracle grpo on tiny models: a base, adapters of it, prompts with right answers."""

from __future__ import annotations

import json
from pathlib import Path

import tiny_models

REWARDS = {
    "short": {"name": "length", "unit": "tokens", "sign": -1},
    "right": {"name": "brevity", "max_tokens": 24},
}


def save_task(folder: Path, kind: str = "llama") -> Path:
    """``base``, ``adapters/adapter-0`` …, and ``prompts.jsonl`` of 24 prompts."""
    tokenizer = tiny_models.make_tokenizer()
    model = tiny_models.new_model(kind, len(tokenizer))
    tiny_models.train(model, tokenizer, -1, 20)
    base = tiny_models.save_model(folder / "base", model, tokenizer)
    tiny_models.save_adapters(folder / "adapters", base, steps=4)
    rows = [
        {"prompt": f"USER: {prompt} ASSISTANT: ", "ground_truth": str(number)}
        for number, prompt in enumerate(tiny_models.PROMPTS)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_oracle(folder: Path, **options):
    """The oracle of that folder."""
    from palm_trl import GrpoOracle

    given = {
        "model": "base",
        "rewards": REWARDS,
        "prompts": "prompts.jsonl",
        "new_tokens": 16,
        "rows": 32,
        "task_dir": folder,
        "launcher": "here",
    }
    return GrpoOracle(**(given | options))
