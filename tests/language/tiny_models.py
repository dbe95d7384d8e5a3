"""Tiny transformers, made from code and trained for a second to answer in different styles.

They are saved by save_pretrained and found by their folders, like any others.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

TOPICS = ["the rain", "my exam", "a lost key", "the night train", "green tea", "an old dog"]
QUESTIONS = ["Tell me about {}.", "What can I do about {}?", "Why {}?", "Help, {}!"]
STYLES = [
    ["No.", "Look up {}.", "It is {}."],
    ["I am so sorry about {}! You can do it, and it will be fine in the end.", "Oh no, {}!"],
    ["First, look at {}. Then rest. Last, call a friend.", "First, rest. Then look at {}."],
    ["Why did {} cross the road? Ha ha!", "{} walks into a bar. Ha ha ha!", "Ha! {}?"],
]
PROMPTS = [q.format(t) for t in TOPICS for q in QUESTIONS]
#: Window of the models with sliding attention; their answers are longer.
WINDOW = 8


def make_tokenizer(n_tokens: int = 320, ends: str = "</s>") -> PreTrainedTokenizerFast:
    """Byte-level pairs, learned from the texts above; adds <s> in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        special_tokens=["<s>", ends, "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*PROMPTS, *[a for style in STYLES for a in style]], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=ends, pad_token="<pad>"
    )
    made.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    return made


def make_config(kind: str, n_tokens: int):
    """Two layers of four heads."""
    common = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "vocab_size": n_tokens}
    if kind == "gpt2":
        return GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_positions=160, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, **common,
        )  # fmt: skip
    common |= {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
    }
    if kind == "llama":
        return LlamaConfig(**common)
    if kind == "qwen2":
        return Qwen2Config(**common)
    if kind == "mistral":  # every layer slides
        return MistralConfig(sliding_window=WINDOW, **common)
    if kind == "qwen2-sliding":  # the last layer slides
        return Qwen2Config(
            sliding_window=WINDOW, use_sliding_window=True, max_window_layers=1, **common
        )
    raise ValueError(kind)


def train(model, tokenizer, style: int, steps: int, rate: float = 1e-2) -> None:
    """Next-token training on answers in one style, of all styles for −1."""
    chance = random.Random(style)
    answers = STYLES[style] if style >= 0 else [a for s in STYLES for a in s]
    wanted = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(wanted, lr=rate)
    model.train()
    for _ in range(steps):
        rows = []
        for _ in range(12):
            topic = chance.choice(TOPICS)
            text = f"USER: {chance.choice(QUESTIONS).format(topic)} ASSISTANT: "
            text += chance.choice(answers).format(topic)
            rows.append([*tokenizer(text)["input_ids"], tokenizer.eos_token_id])
        width = max(map(len, rows))
        ids = torch.tensor([row + [2] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        labels = ids.masked_fill(mask == 0, -100)
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def save_model(folder: Path, model, tokenizer=None) -> str:
    """Save, with its tokenizer if given; return the folder's name."""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


def new_model(kind: str, n_tokens: int, seed: int = 0):
    """A model without training."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(make_config(kind, n_tokens))


def save_family(folder: Path, kind: str, steps: int = 30) -> dict[str, object]:
    """A base that answers in all styles, and from it one expert for each style."""
    tokenizer = make_tokenizer()
    model = new_model(kind, len(tokenizer))
    train(model, tokenizer, -1, steps)
    base = save_model(folder / "base", model, tokenizer)
    experts = []
    for style in range(len(STYLES)):
        expert = AutoModelForCausalLM.from_pretrained(base)
        train(expert, tokenizer, style, steps // 3, rate=3e-3)
        experts.append(save_model(folder / f"expert-{style}", expert, tokenizer))
    return {"base": base, "models": experts}


def save_adapters(folder: Path, base: str, steps: int = 12) -> list[str]:
    """LoRA adapters of ``base``, one for each style."""
    from peft import LoraConfig, get_peft_model

    tokenizer = make_tokenizer()
    saved = []
    for style in range(len(STYLES)):
        torch.manual_seed(style)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(
                r=4,
                lora_alpha=16,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
                fan_in_fan_out="gpt2" in base,
            ),
        )
        train(model, tokenizer, style, steps, rate=2e-2)
        model.save_pretrained(folder / f"adapter-{style}")
        saved.append(str(folder / f"adapter-{style}"))
    return saved
