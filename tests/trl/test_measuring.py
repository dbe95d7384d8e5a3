"""What is measured of a policy: KL, rewards as in training, errors; and how it is kept."""

from __future__ import annotations

import json
import math

import measured_tasks
import numpy as np
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st

from palm_core import InputError, WorkError
from palm_trl import Measurement, inference, measure, measuring


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return measured_tasks.save_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def many(task):
    """Many responses of an adapter."""
    oracle = measured_tasks.make_oracle(task, rows=256)
    return measure(oracle, task / "adapters" / "adapter-0", samples=40)


def same(one, other):
    for name in Measurement.__dataclass_fields__:
        a, b = getattr(one, name), getattr(other, name)
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, name
    return True


def test_both_estimates_of_kl_agree_and_the_first_varies_less(many):
    assert many.mean_kl > 1
    assert abs(many.kl_disagreement) < 3
    assert many.mean_kl == pytest.approx(many.mean_kl_k1, rel=0.1)
    assert many.kl_error < many.kl_k1_error
    assert many.kl.min() >= 0
    assert many.kl_k1.min() < 0


def test_kl_is_exactly_zero_at_the_start(task):
    oracle = measured_tasks.make_oracle(task)
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    fresh = task / "fresh"
    base = AutoModelForCausalLM.from_pretrained(task / "base")
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(base, lora).save_pretrained(fresh)
    model = measure(oracle, None)
    for policy in (fresh, task / "base"):
        found = measure(oracle, policy)
        assert not found.kl.any()
        assert not found.kl_k1.any()
        assert found.kl_disagreement == 0
        # common random numbers: the same policy says the same
        assert same(found, model)


def test_an_adapter_is_the_model_that_it_makes(task, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = task / "adapters" / "adapter-1"
    base = AutoModelForCausalLM.from_pretrained(task / "base")
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(tmp_path)
    oracle = measured_tasks.make_oracle(task)
    one, other = measure(oracle, adapter), measure(oracle, tmp_path)
    assert one.texts == other.texts
    assert one.kl == pytest.approx(other.kl, rel=1e-3, abs=1e-4)
    assert one.mean_kl > 1


def test_nothing_but_seed_prompts_and_policy_matters(task):
    adapter = task / "adapters" / "adapter-0"
    oracle = measured_tasks.make_oracle(task)
    found = measure(oracle, adapter)
    assert same(found, measure(oracle, adapter))
    more = measure(oracle, adapter, samples=6)
    assert [several[:4] for several in more.texts] == list(found.texts)
    prompts = oracle.evaluation_prompts
    few = type(prompts)(
        prompts.texts[5:8], {name: values[5:8] for name, values in prompts.columns.items()}
    )
    assert measure(oracle, adapter, few).texts == found.texts[5:8]
    alone = measure(measured_tasks.make_oracle(task, rows=1), adapter, few)
    assert alone.texts == found.texts[5:8]
    assert alone.kl == pytest.approx(found.kl[5:8], rel=1e-4, abs=1e-5)
    assert measure(oracle, adapter, seed=1).texts != found.texts
    assert measure(measured_tasks.make_oracle(task, run_seed=1), adapter).seed == 1


def test_temperature_is_that_of_the_policy_and_the_reference(task):
    cold = measure(
        measured_tasks.make_oracle(task, temperature=0.01), task / "adapters" / "adapter-0"
    )
    # near greedy: the samples of a prompt are all but the same
    assert np.mean([len(set(several)) for several in cold.texts]) < 1.5
    assert cold.temperature == 0.01
    assert cold.kl[0] == pytest.approx(cold.kl_k1[0], rel=0.2)


def test_lengths_and_ends(many):
    cut = ~many.ended
    assert (many.tokens[cut] == 16).all()
    assert 0 < many.truncation_rate == pytest.approx(cut.mean())
    assert many.mean_tokens == pytest.approx(many.tokens.mean())
    assert (many.tokens[many.ended] <= 16).all()
    assert many.tokens.min() < 8


def test_rewards_see_what_they_see_in_training(task):
    seen = []

    def spy(prompts, completions, completion_ids, ground_truth, **rest):
        seen.extend(zip(prompts, completions, completion_ids, ground_truth, strict=True))
        return [float(len(ids)) for ids in completion_ids]

    rewards = {"spy": spy, "right": {"name": "brevity"}}
    oracle = measured_tasks.make_oracle(task, rewards=rewards)
    found = measure(oracle, task / "adapters" / "adapter-0")
    prompts = oracle.evaluation_prompts
    tokenizer = tiny_models.make_tokenizer()
    assert (found.rewards[:, :, 0] == found.tokens).all()
    ended = dict(zip([text for row in found.texts for text in row], found.ended.flat, strict=True))
    for prompt, text, ids, truth in seen:
        assert prompt.startswith("USER: ")
        number = prompts.texts.index(prompt)
        assert truth == str(number)
        assert text in found.texts[number]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert (ids[-1] == 1) == ended[text]
    assert {ended[text] for _, text, _, _ in seen} == {True, False}


def test_accuracy_is_what_brevity_is_gated_by(task):
    def twice(prompts, completions, **rest):
        return [2.0] * len(prompts)

    judged = {"a": twice, "right": {"name": "brevity", "max_tokens": 10_000}}
    found = measure(measured_tasks.make_oracle(task, rewards=judged, samples=64, rows=512), None)
    right = found.rewards[:, :, 1] > 0
    assert right.any()
    assert (found.correct == right).all()
    assert found.accuracy == pytest.approx(right.mean())
    assert found.accuracy_error == pytest.approx(right.mean(axis=1).std(ddof=1) / math.sqrt(24))
    both = {"a": twice, "b": twice}
    untold = measure(measured_tasks.make_oracle(task, rewards=both), None)
    assert untold.accuracy is untold.correct is untold.accuracy_error is None


def test_a_reward_that_fails_is_told_with_its_prompt(task):
    def picky(prompts, completions, **rest):
        return [1 / ("the rain" not in prompt) for prompt in prompts]

    rewards = {"short": {"name": "length"}, "picky": picky}
    with pytest.raises(WorkError) as caught:
        measure(measured_tasks.make_oracle(task, rewards=rewards), None)
    told = str(caught.value)
    assert told.startswith("reward 'picky' failed at prompt 'USER: Tell me about the rain.")
    assert "ZeroDivisionError" in told


def test_prompts_that_leave_no_room_are_refused_or_dropped(task):
    oracle = measured_tasks.make_oracle(task, longest=20)
    with pytest.raises(InputError, match="prompts: must have 1 to 20 tokens"):
        measure(oracle, None)
    found = measure(measured_tasks.make_oracle(task, longest=25, others="drop"), None)
    assert 0 < len(found.prompts) < 24
    assert len(found.texts) == len(found.rewards) == len(found.prompts)
    whole = measure(measured_tasks.make_oracle(task), None)
    assert found.texts == tuple(whole.texts[number] for number in found.prompts)
    # 256 positions
    with pytest.raises(InputError, match="prompts: must have 1 to 9 tokens"):
        measure(measured_tasks.make_oracle(task, new_tokens=247), None)


def test_what_is_no_policy_is_refused(task, tmp_path):
    oracle = measured_tasks.make_oracle(task)
    with pytest.raises(InputError, match=r"must be a folder with adapter_config.json or config"):
        measure(oracle, tmp_path)
    other = measured_tasks.save_task(tmp_path / "gpt2", "gpt2")
    with pytest.raises(InputError, match=r"must be an adapter of the oracle's model"):
        measure(oracle, other / "adapters" / "adapter-0")


def test_responses_of_another_policy_are_noticed(task, monkeypatch, caplog):
    plain = inference.draw

    def other(model, wanted, **settings):
        return plain(model, wanted, **(settings | {"temperature": 4.0}))

    adapter, oracle = task / "adapters" / "adapter-0", measured_tasks.make_oracle(task)
    measure(oracle, adapter)
    assert "standard errors apart" not in caplog.text
    monkeypatch.setattr(measuring, "draw", other)
    found = measure(oracle, adapter)
    assert abs(found.kl_disagreement) > 4
    assert "standard errors apart: responses may not be drawn from" in caplog.text


def made(start=0, n=5, samples=3, **changes):
    chance = np.random.default_rng(start)
    given = {
        "objectives": ("a", "b"),
        "prompts": tuple(range(n)),
        "texts": tuple(tuple(f"{i} {j} ü\u2028" for j in range(samples)) for i in range(n)),
        "rewards": chance.normal(size=(n, samples, 2)),
        "kl": chance.exponential(size=(n, samples)),
        "kl_k1": chance.normal(size=(n, samples)),
        "tokens": chance.integers(1, 9, size=(n, samples)),
        "ended": chance.random((n, samples)) < 0.7,
    }
    return Measurement(**(given | changes))


def test_prompts_are_the_units_of_errors():
    found = made(n=50)
    # A prompt's responses more alike do not make the error less.
    alike = made(n=50, rewards=np.repeat(found.prompt_rewards[:, None], 3, axis=1))
    expected = found.prompt_rewards.std(axis=0, ddof=1) / math.sqrt(50)
    for one in (found, alike):
        assert one.reward_errors == pytest.approx(expected)
        assert one.mean_rewards == pytest.approx(found.rewards.mean(axis=(0, 1)))
    assert found.kl_error == pytest.approx(found.kl.mean(axis=1).std(ddof=1) / math.sqrt(50))
    single = made(n=1)
    assert single.reward_errors is single.kl_error is single.kl_disagreement is None
    assert single.mean_kl == pytest.approx(single.kl.mean())


def test_the_regularizer_of_sequences_and_of_tokens():
    found = made(
        n=2,
        samples=2,
        kl=np.array([[1.0, 3.0], [0.0, 8.0]]),
        tokens=np.array([[1, 6], [2, 4]]),
    )
    assert found.prompt_regularizer(0.5).tolist() == [1.0, 2.0]
    assert found.prompt_regularizer(0.5, "token").tolist() == [0.375, 0.5]
    assert found.mean_kl_token == 0.875
    with pytest.raises(InputError, match="kl = 'word': must be 'sequence' or 'token'"):
        found.prompt_regularizer(0.5, "word")


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_what_is_saved_is_loaded(tmp_path_factory, seed, n, samples, judged):
    correct = np.ones((n, samples)) if judged else None
    found = made(seed, n, samples, correct=correct, seed=2**62, new_tokens=9, temperature=1 / 3)
    file = tmp_path_factory.mktemp("saved") / "measurement.json"
    found.save(file)
    assert same(Measurement.load(file), found)
    assert [path.name for path in file.parent.iterdir()] == ["measurement.json"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.pop("kl"), "missing required field `kl`"),
        (lambda d: d.update(more=1), "unknown field `more`"),
        (lambda d: d.update(measurement=2), "Invalid enum value 2"),
        (lambda d: d["kl"][0].pop(), "kl: rows differ in length"),
        (lambda d: d["kl"].pop(), r"kl: must have shape \(5, 3\), has \(4, 3\)"),
        (lambda d: d["kl"][0].__setitem__(0, -1.0), "kl = -1: must be at least 0"),
        (lambda d: d["rewards"][0][0].__setitem__(0, None), "Expected `float`"),
        (lambda d: d["tokens"][0].__setitem__(0, 0), "tokens = 0: must be at least 1"),
        (lambda d: d["tokens"][0].__setitem__(0, 2**70), "measurement"),
        (lambda d: d["texts"][0].pop(), r"texts: must be 2 for each of 5"),
        (lambda d: d.update(prompts=[]), "must have at least one prompt"),
        (lambda d: d.update(correct=[[1.0]]), r"correct: must have shape \(5, 3\)"),
    ],
)
def test_damage_is_told(tmp_path, change, told):
    file = tmp_path / "measurement.json"
    made().save(file)
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=told) as caught:
        Measurement.load(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_measurement(tmp_path):
    file = tmp_path / "measurement.json"
    with pytest.raises(InputError, match="no such measurement"):
        Measurement.load(file)
    for content in (b"", b"\xff", b"[1]", b'{"measurement": 1', b"[" * 100_000):
        file.write_bytes(content)
        with pytest.raises(InputError, match="measurement"):
            Measurement.load(file)


def test_numbers_must_be_finite():
    with pytest.raises(InputError, match="rewards: must be finite numbers"):
        made(rewards=np.full((5, 3, 2), np.nan))
