"""Experts by their folders: what loads, and the one line that says why something does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_models
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from palm_core import InputError, PalmError, WorkError
from palm_eval.lm import causal_models as causal
from palm_eval.plugin import Source, has_tokenizer, source_of
from palm_mod import load_experts
from palm_mod.experts import check_tokenizers, common_vocabulary, first_difference

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def refused(error=InputError, **given):
    with pytest.raises(error) as caught:
        load_experts(**given)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 900
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("loading")


@pytest.fixture(scope="module")
def llama(families):
    return families("llama")


def changed(folder, path, name, change):
    """A copy of a model's folder whose tokenizer was changed."""
    copy = folder / name
    if not copy.exists():
        shutil.copytree(path, copy)
        tokenizer = AutoTokenizer.from_pretrained(copy)
        tokenizer = change(tokenizer) or tokenizer
        tokenizer.save_pretrained(copy)
    return copy


def test_what_is_loaded_says_what_it_is(llama):
    paths = llama["models"]
    experts = load_experts([Path(paths[0]), paths[1]], reference=llama["base"])
    assert experts.n_experts == 2
    assert experts.has_reference
    assert experts.names == (
        f"models[0] = {paths[0]!r}", f"models[1] = {paths[1]!r}", f"reference = {llama['base']!r}",
    )  # fmt: skip
    assert experts.vocabulary == 320
    assert experts.context == 256
    assert experts.end_tokens == {1}
    assert experts.notes == ()
    assert experts.device == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert not any(p.requires_grad for m in experts.models for p in m.inner.parameters())
    assert not any(m.inner.training for m in experts.models)


def test_the_number_type_is_that_of_the_files_or_as_asked(llama, folder):
    half = folder / "half"
    AutoModelForCausalLM.from_pretrained(llama["models"][0], dtype=torch.bfloat16).save_pretrained(
        half
    )
    tiny_models.make_tokenizer().save_pretrained(half)
    as_saved = load_experts([half, llama["models"][1]], device="cpu")
    assert [m.inner.dtype for m in as_saved.models] == [torch.bfloat16, torch.float32]
    assert as_saved.start([[0, 5]]).log_probs.dtype == torch.float32
    asked = load_experts([half, llama["models"][1]], device="cpu", dtype="float32")
    assert [m.inner.dtype for m in asked.models] == [torch.float32] * 2
    assert asked.fingerprint != as_saved.fingerprint


def test_the_fingerprint_follows_the_weights(llama, folder):
    paths = llama["models"]
    one, same = load_experts(paths[:2]), load_experts(paths[:2])
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != load_experts([paths[0], paths[2]]).fingerprint
    assert one.fingerprint != load_experts(paths[:2], reference=llama["base"]).fingerprint
    copy = folder / "copied"
    shutil.copytree(paths[1], copy)
    moved = load_experts([paths[0], copy])
    assert moved.fingerprint == one.fingerprint  # contents count, not where they are
    model = AutoModelForCausalLM.from_pretrained(copy)
    with torch.no_grad():
        next(model.parameters())[5, 5] += 1
    model.save_pretrained(copy)
    assert load_experts([paths[0], copy]).fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "experts: must be given by 'models', or by 'base' and 'adapters'"),
        ({"models": ["a", "b"], "adapters": ["c", "d"]}, "experts: must be given by 'models'"),
        ({"models": ["a", "b"], "base": "c"}, "base: must be given exactly if 'adapters'"),
        ({"adapters": ["a", "b"]}, "base: must be given exactly if 'adapters'"),
        ({"models": ["a"]}, "models = ['a']: must be a list of at least 2"),
        ({"models": "ab"}, "models = 'ab': must be a list of at least 2"),
        ({"models": ["a", ""]}, "'': must be the name or folder of a model"),
        (
            {"adapters": ["a", "b"], "base": "c", "reference": "d"},
            "reference = 'd': with adapters it must be their base, 'c'",
        ),
        ({"models": ["a", "b"], "dtype": "int8"}, "dtype = 'int8': must be one of auto, float32"),
        ({"models": ["a", "b"], "device": "tpu9"}, "device = 'tpu9': cannot be used: "),
    ],
)
def test_settings_that_are_wrong(given, said):
    assert refused(**given).startswith(said)


def test_a_folder_that_is_not_there_is_named(llama):
    said = refused(models=[llama["models"][0], "./nowhere/at-all"])
    assert said.startswith("models[1] = './nowhere/at-all': cannot be loaded, must be a causal lan")


def test_a_folder_without_weights_is_named(llama, folder):
    bare = folder / "bare"
    bare.mkdir()
    shutil.copy(Path(llama["base"]) / "config.json", bare)
    assert refused(models=[bare, llama["base"]]).startswith(f"models[0] = {str(bare)!r}: cannot be")


def test_weights_that_are_damaged_are_named(llama, folder):
    damaged = folder / "damaged"
    shutil.copytree(llama["base"], damaged)
    (damaged / "model.safetensors").write_bytes(b"\x00" * 100)
    assert f"reference = {str(damaged)!r}: cannot be loaded" in refused(
        models=llama["models"][:2], reference=damaged
    )


def test_a_classifier_is_no_expert(llama, folder):
    path = folder / "classifier"
    config = tiny_models.make_config("llama", 320)
    config.num_labels = 1
    AutoModelForSequenceClassification.from_config(config).save_pretrained(path)
    said = refused(models=[llama["base"], path])
    assert f"models[1] = {str(path)!r}: must be a trained causal language model" in said
    assert "lm_head.weight" in said


def test_an_adapter_is_no_model(adapters):
    family = adapters("llama")
    said = refused(models=[family["base"], family["adapters"][0]])
    assert said.startswith("models[1] = ")
    assert said.endswith("is an adapter, must be given by 'base' and 'adapters'")


def test_a_model_is_no_adapter(llama):
    said = refused(base=llama["base"], adapters=[llama["models"][0]] * 2)
    assert said.startswith("adapters[0] = ")
    assert "cannot be loaded, must be a LoRA adapter saved by peft" in said


def make_adapter(folder, base, name, after=None, **settings):
    """An adapter without training, with other settings; made once."""
    path = folder / name
    if not path.exists():
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(
                **{"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | settings
            ),
        )
        model.save_pretrained(path)
    return path


def test_an_adapter_of_another_base_is_named(adapters, families, folder):
    family = adapters("llama")
    wide = tiny_models.make_config("llama", 320)
    wide.hidden_size = 64
    other = folder / "wide"
    AutoModelForCausalLM.from_config(wide).save_pretrained(other)
    stranger = make_adapter(folder, other, "of-another-base")
    said = refused(base=family["base"], adapters=[family["adapters"][0], stranger])
    assert said.startswith(f"adapters[1] = {str(stranger)!r}: does not fit base = ")
    assert "size mismatch" in said
    said = refused(base=families("gpt2")["base"], adapters=family["adapters"][:2])
    assert said.startswith("adapters[0] = ")
    assert "does not fit base" in said


def test_an_adapter_trained_on_a_base_of_another_name_is_told(adapters, folder):
    family = adapters("llama")
    moved = folder / "moved-base"
    shutil.copytree(family["base"], moved)
    experts = load_experts(base=moved, adapters=family["adapters"][:2])
    assert len([n for n in experts.notes if "was trained on" in n and "moved-base" in n]) == 2


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("dora", {"use_dora": True}, "is of type DoRA"),
        ("biases", {"bias": "all", "target_modules": ["q_proj"]}, "changes the base's biases"),
        ("heads", {"modules_to_save": ["lm_head"]}, "has full weights beside LoRA (base_model.mod"),
    ],
)
def test_adapters_that_cannot_share_a_batch_are_refused(name, settings, said, adapters, folder):
    family = adapters("llama")
    path = make_adapter(folder, family["base"], name, **settings)
    found = refused(base=family["base"], adapters=[family["adapters"][0], path])
    assert found.startswith(f"adapters[1] = {str(path)!r}: {said}")
    assert "merged into its base it can be one of 'models'" in found


def test_other_kinds_of_adapters_are_refused(adapters, folder):
    family = adapters("llama")
    path = folder / "prefix"
    shutil.copytree(family["adapters"][1], path)
    config = json.loads((path / "adapter_config.json").read_text())
    config["peft_type"] = "IA3"
    (path / "adapter_config.json").write_text(
        json.dumps({key: config[key] for key in ("peft_type", "task_type", "target_modules")})
    )
    said = refused(base=family["base"], adapters=[family["adapters"][0], path])
    assert "IA3, must be plain LoRA to share forward passes" in said


def test_without_peft_adapters_say_what_is_missing(adapters, monkeypatch):
    family = adapters("llama")
    monkeypatch.setattr("palm_mod.causal_model.find_spec", lambda name: None)
    said = refused(base=family["base"], adapters=family["adapters"])
    assert said.startswith("adapters: peft is not installed")


def test_tokenizers_that_differ_are_named_by_their_first_difference(llama, folder):
    def add(tokenizer):
        tokenizer.add_tokens(["palms"])

    longer = changed(folder, llama["models"][1], "longer", add)
    said = refused(models=[llama["models"][0], longer])
    assert said == (
        f"tokenizers differ: 'palms' is missing in models[0] = {llama['models'][0]!r} and 320 in "
        f"models[1] = {str(longer)!r}; experts must share their vocabulary"
    )


def test_other_ends_of_text_must_be_chosen_between(llama, folder):
    def end(tokenizer):
        tokenizer.eos_token = "<pad>"

    other = changed(folder, llama["models"][1], "ends", end)
    pair = [llama["models"][0], other]
    said = refused(models=pair)
    assert "eos_token_id is 1 in models[0]" in said
    assert "and 2 in models[1]" in said
    assert "'tokenizer' must say which one holds" in said
    experts = load_experts(pair, tokenizer=other)
    assert any("eos_token_id is 2 in tokenizer" in note for note in experts.notes)
    assert experts.tokenizer.eos_token_id == 2
    assert experts.end_tokens == {1, 2}  # of the tokenizer, and of the models' own settings


def test_other_chat_templates_are_told(llama, folder):
    def chat(tokenizer):
        tokenizer.chat_template = "{{ messages[0].content }}"

    other = changed(folder, llama["models"][1], "chats", chat)
    experts = load_experts([llama["models"][0], other])
    assert [note for note in experts.notes if "different chat templates" in note]


def test_a_model_without_a_tokenizer_is_told(llama, folder):
    bare = folder / "no-tokenizer"
    AutoModelForCausalLM.from_pretrained(llama["models"][1]).save_pretrained(bare)
    experts = load_experts([bare, llama["models"][0]])
    assert any(
        f"models[0] = {str(bare)!r}: has no tokenizer, is taken to have" in note
        for note in experts.notes
    )
    assert experts.tokenizer.get_vocab() == tiny_models.make_tokenizer().get_vocab()
    assert refused(models=[bare, bare]) == ("tokenizer: missing, none of the experts has one")
    assert load_experts([bare, bare], tokenizer=llama["base"]).vocabulary == 320


def test_on_the_hub_a_tokenizer_is_looked_for(llama, monkeypatch):
    """Adapters are often there without one."""
    asked = []

    def fetch(name, file, revision):
        asked.append((name, file, revision))
        if file != "vocab.json":
            raise OSError(f"{name} does not appear to have a file named {file}")
        return "somewhere"

    monkeypatch.setattr(causal, "cached_file", fetch)
    assert has_tokenizer(Source("org/name", "v1"))
    assert {(name, revision) for name, _, revision in asked} == {("org/name", "v1")}
    monkeypatch.setattr(causal, "_OF_TOKENIZERS", ("tokenizer.json", "tokenizer.model"))
    assert not has_tokenizer(Source("org/name"))


def test_padded_vocabularies_are_cut_to_the_common_one(llama, folder):
    padded = folder / "padded"
    model = AutoModelForCausalLM.from_pretrained(llama["models"][1])
    model.resize_token_embeddings(384, mean_resizing=False)
    tiny_models.save_model(padded, model, tiny_models.make_tokenizer())
    assert load_experts([padded, padded]).vocabulary == 320
    experts = load_experts([padded, llama["models"][0]])
    assert experts.vocabulary == 320
    assert any("predicts 384 tokens, of which the tokenizer knows 320" in n for n in experts.notes)
    assert experts.start([[0, 5, 6]]).log_probs.shape == (1, 2, 320)


def test_a_model_with_too_few_tokens_is_named(llama, folder):
    short = folder / "short"
    tiny_models.save_model(short, tiny_models.new_model("llama", 310), tiny_models.make_tokenizer())
    said = refused(models=[llama["base"], short])
    assert said.startswith(
        f"models[1] = {str(short)!r}: predicts 310 tokens, must predict token 310"
    )


def test_added_tokens_that_a_model_lacks_are_left_out(llama):
    tokenizer = tiny_models.make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<more>"]})
    size, notes = common_vocabulary(tokenizer, [("a", 330), ("b", 320)])
    assert size == 320
    assert any("b: predicts 320 tokens; left out are '<more>'" in note for note in notes)


def test_ends_are_taken_from_every_expert_but_not_from_the_reference(llama, folder):
    ends = {}
    for name, end in (("one", [1, 9]), ("two", 10), ("ref", 11)):
        ends[name] = folder / f"ends-{name}"
        model = AutoModelForCausalLM.from_pretrained(llama["base"])
        model.generation_config.eos_token_id = end
        tiny_models.save_model(ends[name], model, tiny_models.make_tokenizer())
    experts = load_experts([ends["one"], ends["two"]], reference=ends["ref"])
    assert experts.end_tokens == {1, 9, 10}


@pytest.mark.parametrize("where", ["model", "adapter", "probe"])
def test_no_memory_while_loading_names_the_model(where, adapters, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    family = adapters("llama")
    if where == "model":
        monkeypatch.setattr(causal.AutoModelForCausalLM, "from_pretrained", full)
    elif where == "adapter":
        monkeypatch.setattr("peft.PeftModel.load_adapter", full)
    else:
        monkeypatch.setattr("palm_mod.experts.probe", full)
    said = refused(WorkError, base=family["base"], adapters=family["adapters"][:2])
    assert said.startswith("adapters[0] = " if where == "adapter" else "base = ")
    assert said.endswith("out of memory while loading: CUDA out of memory. Tried to allocate 2 GiB")


def test_a_revision_is_told_from_a_folder(tmp_path):
    assert str(source_of("org/name@v1")) == "org/name@v1"
    assert source_of("org/name@v1").revision == "v1"
    at = tmp_path / "run@3"
    at.mkdir()
    assert source_of(at).revision is None


def test_the_first_difference_has_the_lowest_number():
    mine = {"a": 0, "b": 1, "c": 2}
    assert first_difference(mine, dict(mine)) is None
    assert first_difference(mine, {"a": 0, "c": 1, "b": 2}) == ("b", 1, 2)
    assert first_difference(mine, {"a": 0, "b": 1}) == ("c", 2, None)
    assert first_difference({"z": 3, "a": 4}, {"z": 5, "a": 6}) == ("z", 3, 5)
    assert first_difference(mine, mine | {"z": 3}) == ("z", None, 3)


def test_tokenizers_that_only_split_otherwise_are_told():
    mine, other = tiny_models.make_tokenizer(), tiny_models.make_tokenizer()
    assert check_tokenizers([("a", mine), ("b", other)], chosen=False) == []
    from tokenizers import normalizers

    other.backend_tokenizer.normalizer = normalizers.Lowercase()
    notes = check_tokenizers([("a", mine), ("b", other)], chosen=False)
    assert notes == ["tokenizers: a and b split text differently; the former holds"]


def test_every_error_is_ours(llama, monkeypatch):
    """Whatever a library raises while loading, the line names the expert."""
    for error in (
        KeyError("x"),
        ImportError("no module"),
        OSError("disk"),
        ValueError("two\nlines"),
    ):

        def fail(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr(causal.AutoModelForCausalLM, "from_pretrained", fail)
        assert refused(PalmError, models=llama["models"][:2]).startswith("models[0] = ")
