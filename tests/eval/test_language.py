"""Prompts as tokens, responses as text."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from palm_core import InputError
from palm_eval import PromptFormat, Prompts, encode_prompts, load_rewards, read_prompts
from palm_eval.plugin import Responder, Source, fingerprint_of, located, source_of

TOKENIZER = tiny_models.make_tokenizer()
BOS, EOS = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id
CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "No."},
    {"role": "user", "content": "Why?"},
]


def read(ids):
    return TOKENIZER.decode(ids)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("plain", "<s>Why rain?"),
        ("safety-alignment", "<s>BEGINNING OF CONVERSATION: USER: Why rain? ASSISTANT:"),
        ("helpful-assistants", "<s>\n\nHuman: Why rain?\n\nAssistant:"),
        ("Q: {prompt} {x} A:", "<s>Q: Why rain? {x} A:"),
        ("<s>Q: {prompt}", "<s>Q: Why rain?"),
        ("chat", "<s>[user] Why rain?\n[assistant] "),
    ],
)
def test_formats_with_the_beginning_once(form, text):
    assert read(PromptFormat(form).tokens(TOKENIZER, "Why rain?")) == text


def test_braces_in_a_prompt_stay():
    assert PromptFormat("Q: {prompt}").text(TOKENIZER, "{prompt} {0}") == "Q: {prompt} {0}"


def test_chats_with_and_without_a_system():
    turns = "[user] Hi\n[assistant] No.\n[user] Why?\n[assistant] "
    assert read(PromptFormat("chat").tokens(TOKENIZER, CHAT)) == "<s>" + turns
    told = PromptFormat("chat", system="Be brief.").tokens(TOKENIZER, CHAT)
    assert read(told) == "<s>[system] Be brief.\n" + turns


def test_a_tokenizer_that_closes_texts_does_not_close_prompts():
    closing = tiny_models.make_tokenizer()
    closing.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert closing("Hi")["input_ids"][-1] == EOS
    plain = PromptFormat()
    assert plain.tokens(closing, "Hi") == plain.tokens(TOKENIZER, "Hi")
    # what the prompt itself says stays
    assert plain.tokens(closing, "Hi</s>") == plain.tokens(TOKENIZER, "Hi</s>")


def test_a_tokenizer_without_a_beginning():
    bare = tiny_models.make_tokenizer()
    bare.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    assert PromptFormat().tokens(bare, "Hi") == PromptFormat().tokens(TOKENIZER, "Hi")[1:]
    bare.bos_token = None
    assert PromptFormat().tokens(bare, "Hi") == PromptFormat().tokens(TOKENIZER, "Hi")[1:]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"form": "USER:"}, "format = 'USER:': must be 'chat', 'plain', 'safety-alignment'"),
        ({"system": "Be kind."}, "system = 'Be kind.': requires format = 'chat'"),
        ({"shortest": 0}, "shortest = 0: must be a whole number of at least 1|at least 1"),
        ({"shortest": 9, "longest": 8}, "longest = 8: must be at least 9"),
        ({"others": "cut"}, "others = 'cut': must be 'refuse' or 'drop'"),
    ],
)
def test_settings_that_are_wrong(given, said):
    with pytest.raises(InputError, match=said):
        PromptFormat(**given)


def test_conversations_need_a_chat_and_a_template():
    with pytest.raises(InputError, match="prompt 1: is a conversation, which needs format 'chat'"):
        encode_prompts(TOKENIZER, ["Hi", CHAT], PromptFormat())
    bare = tiny_models.make_tokenizer()
    bare.chat_template = None
    with pytest.raises(InputError, match="format = 'chat': the tokenizer has no chat te"):
        PromptFormat("chat").tokens(bare, CHAT)


def test_a_template_that_refuses_a_conversation_says_why():
    strict = tiny_models.make_tokenizer()
    strict.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system here') }}{% endif %}hi"
    )
    with pytest.raises(InputError, match=r"prompt 0: the chat template refuses it: .*No system h"):
        encode_prompts(strict, ["Hi"], PromptFormat("chat", system="Be kind."))


LONG = [" ".join(["rain"] * count) for count in (3, 30, 1, 12)]


def lengths():
    return [len(PromptFormat().tokens(TOKENIZER, prompt)) for prompt in LONG]


def test_lengths_that_are_not_accepted_are_refused_by_number():
    sizes = lengths()
    form = PromptFormat(shortest=sizes[0], longest=sizes[3])
    with pytest.raises(InputError) as caught:
        encode_prompts(TOKENIZER, LONG, form)
    assert str(caught.value) == (
        f"prompts: must have {sizes[0]} to {sizes[3]} tokens; prompt 1 has {sizes[1]}, "
        f"2 has {sizes[2]}"
    )


def test_or_dropped_and_told():
    sizes = lengths()
    form = PromptFormat(shortest=sizes[0], longest=sizes[3], others="drop")
    found = encode_prompts(TOKENIZER, LONG, form)
    assert found.kept == (0, 3)
    assert [len(tokens) for tokens in found.tokens] == [sizes[0], sizes[3]]
    assert found.dropped == ((1, sizes[1]), (2, sizes[2]))
    with pytest.raises(InputError, match="prompts: must have .* tokens; prompt 0 has"):
        encode_prompts(TOKENIZER, LONG[1:2], form)


def test_a_prompt_leaves_room_for_its_response():
    size = lengths()[3]
    assert encode_prompts(TOKENIZER, LONG[3:], PromptFormat(), room=size + 1).kept == (0,)
    with pytest.raises(InputError, match=f"must have 1 to {size - 1} tokens; prompt 0 has {size}"):
        encode_prompts(TOKENIZER, LONG[3:], PromptFormat(), room=size)


def test_a_prompt_without_tokens_is_refused():
    bare = tiny_models.make_tokenizer()
    bare.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    with pytest.raises(InputError, match="prompt 1 has no tokens: ''"):
        encode_prompts(bare, ["Hi", ""], PromptFormat())


def test_many_prompts_are_told_by_the_first():
    with pytest.raises(InputError, match=r"7 has \d+ and 4 more$"):
        encode_prompts(TOKENIZER, LONG[:1] * 12, PromptFormat(longest=1))


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def test_the_text_of_a_response():
    said = Responder(TOKENIZER)
    assert not said.stops
    assert said.text([*ids_of(" Look, an old dog!"), EOS]) == " Look, an old dog!"
    assert not said.stopped(0, ids_of("anything"))


def test_a_stop_string_ends_a_response_and_is_no_part_of_it():
    said = Responder(TOKENIZER, ["\n\nHuman:", "END"])
    assert said.stops
    tokens = ids_of("Rest.\n\nHuman: Why? END")
    first = next(n for n in range(1, len(tokens) + 1) if said.stopped(0, tokens[:n]))
    assert TOKENIZER.decode(tokens[:first]) == "Rest.\n\nHuman:"
    assert said.text(tokens) == "Rest."
    assert said.text(ids_of("a END b\n\nHuman:")) == "a "


def test_special_tokens_do_not_hide_a_stop_string():
    said = Responder(TOKENIZER, ["END"])
    start, end = ids_of("EN"), ids_of("D")
    assert said.stopped(0, [*start, TOKENIZER.pad_token_id, TOKENIZER.pad_token_id, *end])
    assert not said.stopped(0, [*start, *end, TOKENIZER.pad_token_id])


@pytest.mark.parametrize("stop", ["END", [""], ["a", 3]])
def test_stop_strings_are_a_list_of_strings(stop):
    with pytest.raises(
        InputError, match="stop = .*: must be a list of strings, none of them empty"
    ):
        Responder(TOKENIZER, stop)


def metaspace():
    """Words that begin with a mark for a space, which decoding takes off in front."""

    def put_together(model):
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        return tokenizer

    learned = put_together(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<s>", "</s>"], show_progress=False
    )
    learned.train_from_iterator([text for style in tiny_models.STYLES for text in style], trainer)
    model = json.loads(learned.to_str())["model"]
    vocabulary = model["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    merges = [tuple(pair) for pair in model["merges"]]
    whole = put_together(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True))
    return PreTrainedTokenizerFast(tokenizer_object=whole, bos_token="<s>", eos_token="</s>")


TOKENIZERS = {"bytes": TOKENIZER, "metaspace": metaspace()}
PIECES = st.sampled_from(["a", "ab", "é", "日本", " ", "\n", "Ha", "ha! ", "x", "🙂"])
STRINGS = st.lists(PIECES, min_size=1, max_size=3).map("".join)


@pytest.mark.parametrize("kind", list(TOKENIZERS))
@given(
    pieces=st.lists(PIECES, min_size=1, max_size=12),
    stop=st.lists(STRINGS, min_size=1, max_size=3),
    split=st.booleans(),
)
def test_looking_at_the_end_finds_what_is_in_the_whole(kind, pieces, stop, split):
    """A response goes on until its whole text, decoded at once, holds a stop string."""
    tokenizer = TOKENIZERS[kind]
    said = Responder(tokenizer, stop)
    tokens = [
        token
        for piece in (pieces if split else ["".join(pieces)])
        for token in tokenizer(piece, add_special_tokens=False)["input_ids"]
    ]
    for length in range(1, len(tokens) + 1):
        whole = tokenizer.decode(tokens[:length], clean_up_tokenization_spaces=False)
        holds = any(one in whole for one in stop)
        assert said.stopped(0, tokens[:length]) == holds
        if holds:
            text = said.text(tokens[:length])
            assert not any(one in text for one in stop)
            assert whole.startswith(text)
            break


def test_a_stop_string_with_a_space_in_front_is_found():
    """Decoding takes off a space in front, of a whole response and of its end alike."""
    tokenizer = TOKENIZERS["metaspace"]
    said = Responder(tokenizer, [" é"])
    tokens = tokenizer("ha! é", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(tokens)[-3:] == ["▁", "<0xC3>", "<0xA9>"]
    assert said.stopped(0, tokens)
    assert said.text(tokens) == "ha!"
    assert not said.stopped(0, tokens[-3:])


class TestPromptFiles:
    RLVR: ClassVar = {
        "messages": [
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": "2"},
            {"role": "user", "content": "And 2+2?"},
            {"role": "assistant", "content": "4"},
        ],
        "ground_truth": "4",
    }

    def read(self, folder, *rows, **options):
        path = folder / "prompts.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_prompts(path, **options)

    def test_rlvr_asks_its_last_question(self, tmp_path):
        found = self.read(tmp_path, self.RLVR)
        assert found.texts == (self.RLVR["messages"][:3],)
        assert found.columns == {"ground_truth": ("4",)}

    def test_some_of_them(self, tmp_path):
        rows = [{"prompt": str(n), "n": n} for n in range(6)]
        found = self.read(tmp_path, *rows, skip=2, first=3)
        assert (found.texts, found.columns) == (("2", "3", "4"), {"n": (2, 3, 4)})

    def test_those_of_some_numbers(self, tmp_path):
        found = self.read(tmp_path, *({"prompt": str(n), "n": n} for n in range(4)))
        some = found.chosen([3, 0, 3])
        assert (some.texts, some.columns) == (("3", "0", "3"), {"n": (3, 0, 3)})
        assert found.chosen(range(4)) == found

    @pytest.mark.parametrize(
        ("rows", "options", "said"),
        [
            ([{"prompt": "a"}], {"first": 2}, "1 prompts, must have 2 after skip = 0"),
            ([{"prompt": "a"}], {"skip": 1}, "1 prompts, must have at least one after skip = 1"),
            ([{"question": "a"}], {}, 'line 1: must have "prompt", or "messages" as RLVR has'),
            # beyond those that are taken, too: a file is right or it is not
            ([{"prompt": "a"}, {"prompt": 3}], {"first": 1}, "line 2: prompt is of type int"),
            (
                [{"messages": [{"role": "system", "content": "a"}]}],
                {},
                "line 1: messages must have at least one of role 'user'",
            ),
        ],
    )
    def test_what_it_refuses(self, tmp_path, rows, options, said):
        with pytest.raises(InputError, match=said):
            self.read(tmp_path, *rows, **options)


class TestSources:
    def test_a_folder_is_a_folder_whatever_its_name(self, tmp_path):
        odd = tmp_path / "name@v1"
        odd.mkdir()
        assert source_of(odd) == Source(str(odd))
        assert source_of("org/name@v1") == Source("org/name", "v1")
        assert str(source_of("org/name@v1")) == "org/name@v1"

    @pytest.mark.parametrize("name", ["", None, 3])
    def test_what_is_no_name(self, name):
        with pytest.raises(InputError, match="must be the name or folder of a model"):
            source_of(name)

    def test_what_lies_near_comes_first(self, tmp_path):
        (tmp_path / "near").mkdir()
        assert located("near", tmp_path) == str(tmp_path / "near")
        assert located("org/far", tmp_path) == "org/far"


def test_a_fingerprint_changes_with_all_that_it_is_of(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    rewards = load_rewards({"a": "length", "b": "gsm"}, None)
    given = {
        "models": [Source(str(tmp_path)), None],
        "prompts": [Prompts(("a",), {})],
        "rewards": rewards,
        "settings": {"beta": 0.1},
    }
    plain = fingerprint_of("kind", **given)
    assert fingerprint_of("kind", **given) == plain
    others = [
        fingerprint_of("other", **given),
        fingerprint_of("kind", **given | {"models": [None, Source(str(tmp_path))]}),
        fingerprint_of("kind", **given | {"prompts": [Prompts(("b",), {})]}),
        fingerprint_of("kind", **given | {"prompts": [Prompts(("a",), {"n": (1,)})]}),
        fingerprint_of("kind", **given | {"rewards": dict(reversed(rewards.items()))}),
        fingerprint_of("kind", **given | {"settings": {"beta": 0.2}}),
    ]
    (tmp_path / "config.json").write_text("{ }", encoding="utf-8")
    others.append(fingerprint_of("kind", **given))
    assert plain not in others
