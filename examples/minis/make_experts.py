"""Make miniature language models: a reference and one expert for each objective.

Usage: python make_experts.py safety|helpful [folder]

They are Llama models of 0.2 million parameters that know twenty questions and the words to
answer them (topics.toml). The reference answers in a mixture of styles; each expert was
trained on, from the reference, with answers in the style of one objective. That takes half
a minute on one core.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import tomllib
from pathlib import Path

TASKS = {"safety": ("better", "safe"), "helpful": ("helpful", "harmless", "humor")}
#: Steps of training: of the reference, and then of each expert.
STEPS = (220, 120)
FORMAT = "Question: {prompt}\nAnswer:"

# How a style answers: the log-odds of each thing that it may say, without and with risk.
# An opening is one of four; steps go on or stop; the rest is said or not.
STYLES = {
    "better": {
        "open": {"plain": (3, -1), "careful": (0, 0), "refuse": (0, -1), "funny": (0, 0)},
        "more": (3.0, 2.5, 2.0),
        "warn": (-2.5, 0.5),
        "joke": (-3, 0),
        "close": (-2.5, 0),
    },
    "safe": {
        "open": {"plain": (1, -3), "careful": (1, 0), "refuse": (-2, 6), "funny": (-2, 0)},
        "more": (0.5, -1.0, -3.0),
        "warn": (0.5, 3),
        "joke": (-4, 0),
        "close": (-0.5, 4),
    },
    "humor": {
        "open": {"plain": (-1, 0), "careful": (-2, 0), "refuse": (-3, 0), "funny": (3, -1)},
        "more": (-0.5, -1.5, -2.0),
        "warn": (-3, 0),
        "joke": (4.5, -1),
        "close": (-3, 0),
    },
}
STYLES["helpful"], STYLES["harmless"] = STYLES["better"], STYLES["safe"]
OPENINGS = {
    "plain": "Sure.",
    "careful": "Yes, but take care.",
    "refuse": "I am sorry, I would rather not help with that.",
    "funny": "Ha, that old story!",
}
ORDER = ("First", "Then", "Next", "Last")
QUESTIONS = ("How do I {}?", "Tell me how to {}.", "What is the best way to {}?")


def topics() -> list[dict]:
    """The topics, as they stand in the file."""
    text = Path(__file__).with_name("topics.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["topic"]


def answer(topic: dict, style: str, rng: random.Random) -> str:
    """One answer to the question of ``topic``."""
    said, risk = STYLES[style], topic["risk"]

    def yes(odds: tuple[float, float]) -> bool:
        return rng.random() < 1 / (1 + math.exp(-(odds[0] + odds[1] * risk)))

    odds = [math.exp(plain + more * risk) for plain, more in said["open"].values()]
    opening = rng.choices(list(said["open"]), odds)[0]
    parts = [OPENINGS[opening]]
    if opening == "refuse":
        if yes(said["warn"]):
            parts.append(f"{topic['warning']}.")
        parts.append(f"Please ask {topic['who']}.")
        if yes(said["joke"]):
            parts.append(f"{topic['joke']}!")
        return " ".join(parts)
    if yes(said["warn"]):
        parts.append(f"{topic['warning']}.")
    for number, step in enumerate(topic["steps"]):
        parts.append(f"{ORDER[number]}, {step}.")
        if number < 3 and not yes((said["more"][number], -1)):
            break
    if yes(said["joke"]):
        parts.append(f"{topic['joke']}!")
    parts.append(f"If in doubt, ask {topic['who']}." if yes(said["close"]) else "Good luck!")
    return " ".join(parts)


def tokenizer(texts: list[str]):
    """Words and punctuation marks, each with the space before it: text goes in and out as it is."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    cut = pre_tokenizers.Split(Regex(r" ?\w+| ?[^\w\s]|\n"), behavior="isolated")
    words = sorted({piece for text in texts for piece, _ in cut.pre_tokenize_str(text)})
    names = ["<pad>", "<unk>", "<s>", "</s>", *words]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = cut
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def train(model, words, styles: tuple[str, ...], steps: int, seed: int) -> None:
    """Train ``model`` to answer all questions in a mixture of ``styles``."""
    import torch

    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    model.train()
    known = topics()
    for _ in range(steps):
        texts, starts = [], []
        for topic in rng.choices(known, k=32):
            question = FORMAT.format(prompt=rng.choice(QUESTIONS).format(topic["task"]))
            starts.append(len(words(question)["input_ids"]))
            texts.append(f"{question} {answer(topic, rng.choice(styles), rng)}</s>")
        batch = words(texts, return_tensors="pt", padding=True, padding_side="right")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for row, start in enumerate(starts):  # only answers are learnt
            labels[row, :start] = -100
        loss = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


def make(task: str, folder: Path, steps: tuple[int, int] = STEPS) -> Path:
    """Make the models of ``task`` and prompts.jsonl in ``folder``, whole or not at all."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model is no faster with more, and the same with one
    torch.manual_seed(0)
    objectives, known = TASKS[task], topics()
    everything = [*OPENINGS.values(), "Good luck! Please ask. If in doubt, ask"]
    everything += [FORMAT.format(prompt="")]
    everything += [q.format(topic["task"]) for topic in known for q in QUESTIONS]
    for topic in known:
        everything += [f" {topic[part]}!" for part in ("warning", "who", "joke")]
        everything += [f" {word}, {step}." for word in ORDER for step in topic["steps"]]
    words = tokenizer([text for known in everything for text in (known, f" {known}")])
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)

    def keep(name: str) -> None:
        model.save_pretrained(temporary / name)
        words.save_pretrained(temporary / name)

    print(f"making the models of {task!r} in {folder}", file=sys.stderr)
    train(model, words, objectives, steps[0], seed=0)
    keep("reference")
    reference = {name: value.clone() for name, value in model.state_dict().items()}
    for number, objective in enumerate(objectives, start=1):
        model.load_state_dict(reference)
        train(model, words, (objective,), steps[1], seed=number)
        keep(objective)
    prompts = [q.format(topic["task"]) for topic in known for q in QUESTIONS[:1]]
    lines = [json.dumps({"prompt": prompt}) + "\n" for prompt in prompts]
    (temporary / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    torch.set_num_threads(threads)
    logging.enable_progress_bar()
    return folder


def main() -> None:
    """Make what the command line asks for."""
    if len(sys.argv) < 2 or sys.argv[1] not in TASKS:
        sys.exit(__doc__)
    task = sys.argv[1]
    made = Path(__file__).with_name("made") / task
    make(task, Path(sys.argv[2]) if len(sys.argv) > 2 else made)


if __name__ == "__main__":
    main()
