"""Sequence classifiers as reward models, on tiny ones that are made here."""

from __future__ import annotations

import logging
import pickle
import random
import shutil

import pytest

from palm_core import InputError
from palm_eval.lm import sources
from palm_eval.rewards import PRESETS, brevity, classifier, length
from palm_eval.rewards.classifiers import _filled

pytest.importorskip("torch", reason="palm-eval[hf] is not installed")
pytest.importorskip("transformers", reason="palm-eval[hf] is not installed")

WORDS = (
    *("yes", "no", "maybe", "the", "cat", "sat", "on", "a", "mat", "why", "how", "what"),
    *("?", ".", "!", ":", "{", "}", "hello", "bye", "good", "bad"),
)
CHAT = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} </s>{% endfor %}"


@pytest.fixture(autouse=True, scope="module")
def _offline():
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("TOKENIZERS_PARALLELISM", "false")
    yield
    patch.undo()


def save_tokenizer(folder, *, pad="<pad>", bert=False, chat=CHAT):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<s>", "</s>"]
    extra = ["[user]", "[assistant]", "[system]", "USER", "ASSISTANT", "Q"]
    vocabulary = {word: index for index, word in enumerate([*special, *extra, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(":", "isolated")]
    )
    if bert:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> $B:1 </s>:1",
            special_tokens=[("<s>", 2), ("</s>", 3)],
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token=pad, model_max_length=64,
        model_input_names=["input_ids", *(["token_type_ids"] if bert else []), "attention_mask"],
    )  # fmt: skip
    fast.chat_template = chat
    fast.save_pretrained(folder)
    return len(vocabulary)


def save_model(folder, kind, *, labels=1, pad="<pad>", chat=CHAT, seed=0):
    """A tiny classifier of some architecture with weights large enough to tell texts apart."""
    import torch
    import transformers as t

    size = save_tokenizer(folder, pad=pad, bert=kind == "bert", chat=chat)
    common = {"vocab_size": size, "num_labels": labels, "pad_token_id": None}
    torch.manual_seed(seed)
    if kind == "llama":
        config = t.LlamaConfig(
            **common, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=64, initializer_range=0.3,
        )  # fmt: skip
        model = t.LlamaForSequenceClassification(config)
    elif kind == "gpt2":
        config = t.GPT2Config(
            **common, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3
        )
        model = t.GPT2ForSequenceClassification(config)
    else:
        common["pad_token_id"] = 0
        config = t.BertConfig(
            **common, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=64, initializer_range=0.3,
        )  # fmt: skip
        model = t.BertForSequenceClassification(config)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "llama": save_model(root / "llama", "llama", pad=None),
        "llama-eos": save_model(root / "llama-eos", "llama", pad="</s>"),
        "gpt2": save_model(root / "gpt2", "gpt2", labels=2, pad="</s>"),
        "bert": save_model(root / "bert", "bert", labels=3),
    }


def logits(path, text, pair=None, *, special=True, types=False):
    """What the model says of one text by itself: no batch, no padding token."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    if model.config.model_type != "bert":
        model.config.pad_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        inputs = tokenizer(text, pair, return_tensors="pt", add_special_tokens=special)
        assert not types or inputs["token_type_ids"].max() == 1
        return model(**inputs).logits[0]


def texts(n, seed=0):
    generator = random.Random(seed)
    prompts = [" ".join(generator.choices(WORDS, k=generator.randint(1, 6))) for _ in range(n)]
    replies = [" ".join(generator.choices(WORDS, k=generator.randint(1, 20))) for _ in range(n)]
    return prompts, replies


CASES = {
    "llama": {"input": "chat"},
    "llama-eos": {"input": "template", "template": "Q {prompt} {completion} </s>"},
    "gpt2": {"input": "template", "template": "USER {prompt} ASSISTANT:{completion}", "label": 1},
    "bert": {"input": "pair", "label": 2},
}


@pytest.mark.parametrize("kind", CASES)
def test_the_batch_changes_nothing(models, kind):
    """Alone, in one batch, in small batches and in another order: the same rewards."""
    prompts, replies = texts(23)
    reward = classifier(model=models[kind], batch_size=23, **CASES[kind])
    together = reward(prompts, replies)
    assert len({round(score, 4) for score in together}) > 15  # it does tell them apart
    alone = [reward([p], [r])[0] for p, r in zip(prompts, replies, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    small = classifier(model=models[kind], batch_size=4, **CASES[kind])
    assert small(prompts, replies) == pytest.approx(alone, abs=1e-5)
    order = list(range(23))
    random.Random(1).shuffle(order)
    shuffled = small([prompts[i] for i in order], [replies[i] for i in order])
    assert shuffled == pytest.approx([alone[i] for i in order], abs=1e-5)
    assert small(prompts, replies) == small(prompts, replies)


def test_each_input_is_what_the_model_is_asked(models):
    prompts, replies = texts(5, seed=3)
    for prompt, reply in zip(prompts, replies, strict=True):
        chat = f"<s>[user] {prompt} </s>[assistant] {reply} </s>"
        expected = logits(models["llama"], chat, special=False)[0]
        found = classifier(model=models["llama"])([prompt], [reply])
        assert found == pytest.approx([float(expected)], abs=1e-5)

        filled = f"Q {prompt} {reply} </s>"
        expected = logits(models["llama-eos"], filled)[0]
        found = classifier(model=models["llama-eos"], **CASES["llama-eos"])([prompt], [reply])
        assert found == pytest.approx([float(expected)], abs=1e-5)

        pair = logits(models["bert"], prompt, reply, types=True)
        found = classifier(model=models["bert"], input="pair", label=0)([prompt], [reply])
        assert found == pytest.approx([float(pair[0])], abs=1e-5)
        with_template = classifier(
            model=models["bert"], input="pair", label=0, template="Q {prompt}"
        )
        expected = logits(models["bert"], f"Q {prompt}", reply)[0]
        assert with_template([prompt], [reply]) == pytest.approx([float(expected)], abs=1e-5)

        only = logits(models["bert"], reply)
        found = classifier(model=models["bert"], input="reply", label="LABEL_1")([prompt], [reply])
        assert found == pytest.approx([float(only[1])], abs=1e-5)


def test_activation_and_sign(models):
    from torch import sigmoid, softmax

    raw = logits(models["bert"], "yes", "no")
    ask = {"model": models["bert"], "input": "pair", "label": 1}
    for activation, expected in (
        ("none", raw[1]), ("sigmoid", sigmoid(raw)[1]), ("softmax", softmax(raw, 0)[1]),
    ):  # fmt: skip
        for sign in (1, -1):
            found = classifier(**ask, activation=activation, sign=sign)(["yes"], ["no"])
            assert found == pytest.approx([sign * float(expected)], abs=1e-5)


def test_conversations_are_chats(models):
    reward = classifier(model=models["llama"])
    talk = [{"role": "system", "content": "hello"}, {"role": "user", "content": "why ?"}]
    answer = [{"role": "assistant", "content": "good cat"}]
    assert reward([talk[1:]], [answer]) == pytest.approx(reward(["why ?"], ["good cat"]))
    assert reward([talk], [answer]) != pytest.approx(reward(["why ?"], ["good cat"]))


def test_braces_in_texts_are_theirs():
    assert _filled("{prompt}|{completion}", "{completion}", "{prompt}") == "{completion}|{prompt}"


@pytest.mark.parametrize("truncate", ["left", "right"])
def test_long_texts_lose_one_end_and_it_is_said(models, truncate, caplog):
    ask = {"model": models["gpt2"], "input": "reply", "label": 0}
    long, words = "yes " * 50 + "no " * 50, {"left": "no " * 8, "right": "yes " * 8}
    with caplog.at_level(logging.WARNING, "palm_eval.rewards"):
        cut = classifier(**ask, max_length=8, truncate=truncate)(["q", "q"], [long, "yes"])
    assert f"1 of 2 texts are longer than 8 tokens and lose their {truncate} end" in caplog.text
    assert cut[0] == pytest.approx(classifier(**ask)(["q"], [words[truncate]])[0], abs=1e-5)


@pytest.mark.parametrize(("truncate", "kept"), [("left", "good </s>"), ("right", "<s>[user]")])
def test_long_chats_too(models, truncate, kept):
    reward = classifier(model=models["llama"], max_length=2, truncate=truncate)
    expected = logits(models["llama"], kept, special=False)[0]
    assert reward(["why"], ["good"]) == pytest.approx([float(expected)], abs=1e-5)


def test_the_model_s_own_limit_is_kept(models):
    long = "yes no " * 200
    (score,) = classifier(model=models["bert"], input="reply", label=0)(["q"], [long])
    assert score == score
    with pytest.raises(InputError, match="max_length = 100: the model takes at most 64"):
        classifier(model=models["bert"], input="reply", label=0, max_length=100)(["q"], ["yes"])


def test_a_head_that_was_never_trained_is_refused(models, tmp_path):
    import transformers as t

    folder = tmp_path / "base"
    shutil.copytree(models["llama"], folder)
    t.LlamaForCausalLM(t.LlamaConfig.from_pretrained(folder)).save_pretrained(folder)
    with pytest.raises(InputError, match="must be a trained sequence classifier.*score.weight"):
        classifier(model=str(folder))(["why"], ["yes"])


@pytest.mark.parametrize("bias", [False, True])
def test_a_head_under_another_name(models, tmp_path, bias):
    """As in the beaver models: ``score_head.weight``, and its bias where there is one."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "beaver"
    shutil.copytree(models["llama"], folder)
    weights = load_file(folder / "model.safetensors")
    weights["score_head.weight"] = weights.pop("score.weight")
    if bias:
        weights["score_head.bias"] = torch.tensor([2.5])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="score.weight, score_head.*'head'"):
        classifier(model=str(folder))(["why"], ["yes"])
    plain = classifier(model=models["llama"])(["why"], ["yes"])[0]
    found = classifier(model=str(folder), head="score_head")(["why"], ["yes"])[0]
    assert found == pytest.approx(plain + (2.5 if bias else 0.0), abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("bert", {"input": "pair"}, "label: missing, the model has 3 logits, must be 0 to 2"),
        ("bert", {"input": "pair", "label": 3}, "label = 3: must be 0 to 2"),
        ("bert", {"input": "pair", "label": "LABEL"}, "label = 'LABEL': must be 0 to 2 or one of"),
        ("bert", {"input": "pair", "label": 0, "device": "nowhere"}, "device = 'nowhere'"),
    ],
)
def test_refused_by_the_model(models, kind, options, message):
    with pytest.raises(InputError, match=message):
        classifier(model=models[kind], **options)(["why"], ["yes"])


def test_no_chat_template(tmp_path):
    path = save_model(tmp_path / "bare", "llama", chat=None)
    with pytest.raises(InputError, match="has no chat template, must be 'pair', 'reply'"):
        classifier(model=path)(["why"], ["yes"])


def test_several_turns_are_for_chats_only(models):
    user = {"role": "user", "content": "why"}
    turns = [user, {"role": "assistant", "content": "no"}, user]
    with pytest.raises(InputError, match="prompt 0 is a conversation .*input='chat'"):
        classifier(model=models["bert"], input="pair", label=0)([turns], ["yes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "model: missing"),
        ({"preset": "beaver"}, "preset = 'beaver': must be one of skywork"),
        ({"model": "x", "input": "text"}, "input = 'text': must be one of"),
        ({"model": "x", "input": "template"}, "template: missing"),
        ({"model": "x", "input": "template", "template": "{prompt}"}, "must have {completion}"),
        (
            {"model": "x", "input": "pair", "template": "{completion}"},
            "must have {prompt}, and not",
        ),
        ({"model": "x", "template": "{completion}"}, "template: requires input = "),
        ({"model": "x", "activation": "tanh"}, "activation = 'tanh'"),
        ({"model": "x", "sign": 2}, "sign = 2"),
        ({"model": "x", "dtype": "int8"}, "dtype = 'int8'"),
        ({"model": "x", "truncate": "middle"}, "truncate = 'middle'"),
        ({"model": "x", "batch_size": 0}, "batch_size = 0"),
        ({"model": "x", "label": -1}, "label = -1"),
        ({"model": 3}, "model = 3: must be a text"),
        ({"model": "x", "device": 0}, "device = 0"),
    ],
)
def test_refused_before_anything_is_loaded(options, message):
    with pytest.raises(InputError, match=message):
        classifier(**options)


def test_a_model_that_is_nowhere(tmp_path):
    reward = classifier(model=str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="cannot be loaded, must be a name on the Hugging Face"):
        reward(["why"], ["yes"])
    with pytest.raises(InputError, match="cannot be loaded"):
        reward.fingerprint  # noqa: B018  asking is the test


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"torch and transformers, not installed: .*\[hf\]"):
        classifier(model="x")


def test_presets_are_the_paper_s(monkeypatch):
    made = {name: classifier(preset=name) for name in PRESETS}
    assert {name: reward.__name__ for name, reward in made.items()} == {n: n for n in PRESETS}
    settings = {name: reward._settings for name, reward in made.items()}
    assert [name for name in PRESETS if settings[name]["sign"] == -1] == ["beaver-cost"]
    asked = {name: made[name]._texts(["Hi {completion}"], ["Ho"]) for name in PRESETS}
    conversation = [
        {"role": "user", "content": "Hi {completion}"}, {"role": "assistant", "content": "Ho"},
    ]  # fmt: skip
    beaver = "BEGINNING OF CONVERSATION: USER: Hi {completion} ASSISTANT:Ho"
    assert asked == {
        "skywork": ([conversation], None),
        "beaver-reward": ([beaver], None),
        "beaver-cost": ([beaver], None),
        "helpful": (["Hi {completion}"], ["Ho"]),
        "harmless": (["Hi {completion}"], ["Ho"]),
        "humor": (["Ho"], None),
    }
    assert settings["humor"]["label"] == 1


def test_options_go_before_the_preset_s(models):
    both = [
        classifier(preset="beaver-cost", model=models["llama-eos"], head="score", sign=sign)
        for sign in (-1, 1)
    ]
    low, high = (reward(["why ?"], ["yes"])[0] for reward in both)
    assert low == -high != 0


def test_fingerprint_follows_the_files_and_the_options(models, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(models["llama"], path)
    ours = classifier(model=str(path)).fingerprint
    assert classifier(model=str(path), batch_size=3, device="cpu").fingerprint == ours
    assert classifier(model=str(path), sign=-1).fingerprint != ours
    assert classifier(model=str(path), max_length=9).fingerprint != ours
    save_model(path, "llama", pad=None, seed=1)
    assert classifier(model=str(path)).fingerprint != ours


def test_it_travels_to_workers(models):
    reward = classifier(model=models["llama"])
    before = reward(["why"], ["yes"])
    again = pickle.loads(pickle.dumps(reward))
    assert again.__name__ == reward.__name__
    assert again(["why"], ["yes"]) == before
    assert reward([], []) == []


def test_lengths_in_a_tokenizer_s_tokens(models):
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(models["bert"])
    for tokenizer in (models["bert"], loaded):
        reward = length(unit="tokens", tokenizer=tokenizer)
        assert reward(["q", "q"], ["yes no : maybe", ""]) == [4.0, 0.0]
        assert reward.fingerprint is not None
        short = brevity(max_tokens=8, tokenizer=tokenizer, correct="math")
        assert short(["q"], [r"so : \boxed{4}"], ground_truth=["4"]) == [1 - 3 / 8]
    other = length(unit="tokens", tokenizer=models["llama"])
    assert other.fingerprint != length(unit="tokens", tokenizer=models["bert"]).fingerprint


def test_the_kind_of_numbers_is_chosen(models):
    import torch

    half = classifier(model=models["llama"], dtype="bfloat16")
    full = classifier(model=models["llama"], dtype="float32", device="cpu")
    scores = [reward(["why ?"], ["good cat"])[0] for reward in (half, full)]
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], rel=0.1)
    assert half._model._model.dtype == torch.bfloat16
    assert half.fingerprint != full.fingerprint
