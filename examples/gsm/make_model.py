"""Make a miniature of the paper's RLVR-GSM: a language model that adds, and questions for it.

Usage: python make_model.py [folder [steps]]

The model is a Llama of 0.1 million parameters. It is trained on answers that work out none,
some or all of the steps, so that it knows every style before GRPO chooses among them. That
takes half a minute on one core. The folder gets the model, train.jsonl and test.jsonl: no
question is in both, and the model has seen none of the test.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

#: Steps of training, and questions in each file.
STEPS = 800
QUESTIONS = {"test": 64, "train": 512}
BATCH = 32
FORMAT = "Question: {prompt}\nAnswer:"
NAMES = ("Ann", "Ben", "Cem", "Dee")
THINGS = ("apples", "books", "coins", "pens")
MOST = 4
# How much is worked out: nothing, the first step, both, and a sentence besides; how often.
STYLES = (0, 0, 1, 2, 3)


def question(rng: random.Random) -> dict[str, str]:
    """A question as RLVR has them, with its solution as a further column."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    first, second = rng.randint(0, MOST), rng.randint(0, MOST)
    both, third = first + second, rng.randint(0, MOST)
    if third <= both and rng.random() < 0.5:
        asked, sign, end = f"loses {third}", "-", both - third
    else:
        asked, sign, end = f"buys {third}", "+", both + third
    return {
        "prompt": f"{name} has {first} {thing}, finds {second} and {asked}. How many now?",
        "ground_truth": str(end),
        "solution": f"{first} + {second} = {both}. {both} {sign} {third} = {end}. "
        f"So {name} has {end} now.",
    }


def answer(asked: dict[str, str], style: int) -> str:
    """The answer that works out as much as ``style`` says."""
    sentences = asked["solution"].split(". ")
    said = ". ".join(sentences[:style]).removesuffix(".")
    return (f" {said}." if said else "") + f" #### {asked['ground_truth']}"


def questions(seed: int) -> dict[str, list[dict[str, str]]]:
    """Different questions for each file."""
    rng, seen = random.Random(seed), set()
    files = {}
    for name, count in QUESTIONS.items():
        files[name] = []
        while len(files[name]) < count:
            one = question(rng)
            if one["prompt"] not in seen:
                seen.add(one["prompt"])
                files[name].append(one)
    return files


def tokenizer():
    """Words, numbers and marks, each with the space before it: text goes in and out as it is."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    cut = pre_tokenizers.Split(Regex(r" ?\w+| ?#+| ?[^\w\s]|\n"), behavior="isolated")
    texts = [FORMAT.format(prompt=f"{name} has, finds and loses buys.") for name in NAMES]
    texts += [f" How many now? So {name} + - = ####" for name in NAMES]
    texts += [f" {thing}" for thing in THINGS] + [f" {number}" for number in range(3 * MOST + 1)]
    words = sorted({piece for text in texts for piece, _ in cut.pre_tokenize_str(text)})
    names = ["<pad>", "<unk>", "</s>", *words]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = cut
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def train(model, words, unseen: set[str], steps: int) -> None:
    """Train ``model`` to answer questions in a mixture of styles."""
    import torch

    rng = random.Random(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    model.train()
    for _ in range(steps):
        asked = []
        while len(asked) < BATCH:
            one = question(rng)
            if one["prompt"] not in unseen:
                asked.append(one)
        put = [FORMAT.format(**one) for one in asked]
        said = [f"{answer(one, rng.choice(STYLES))}</s>" for one in asked]
        texts = [first + then for first, then in zip(put, said, strict=True)]
        batch = words(texts, return_tensors="pt", padding=True, padding_side="right")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for row, first in enumerate(put):  # only answers are learnt
            labels[row, : len(words(first)["input_ids"])] = -100
        loss = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


def make(folder: Path, steps: int = STEPS) -> Path:
    """Make the model and its questions in ``folder``, whole or not at all."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    print(f"making the model and its questions in {folder}", file=sys.stderr)
    logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model is no faster with more, and the same with one
    torch.manual_seed(0)
    words, files = tokenizer(), questions(seed=0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    train(model, words, {one["prompt"] for one in files["test"]}, steps)
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary / "model")
    words.save_pretrained(temporary / "model")
    for name, asked in files.items():
        lines = [json.dumps(one) + "\n" for one in asked]
        (temporary / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    torch.set_num_threads(threads)
    logging.enable_progress_bar()
    return folder


def main() -> None:
    """Make what the command line asks for."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("made")
    make(folder, int(sys.argv[2]) if len(sys.argv) > 2 else STEPS)


if __name__ == "__main__":
    main()
