"""The oracle `mod`: what it answers, what it costs, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from palm_core import Execution, InputError, WorkError, build_portfolio, load_oracle
from palm_core.plugin import ARTIFACTS, weight_id
from palm_core.testing import check_conformance
from palm_eval import load_rewards, read_responses
from palm_mod import ModOracle

FORM = "USER: {prompt} ASSISTANT: "
WEIGHTS = np.array([[1.0, 0.0], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7], [0.0, 1.0]])


def words(prompts, completions):
    """Up to 1."""
    return [min(1.0, len(text.split()) / 20) for text in completions]


def kind(prompts, completions):
    return [float("sorry" in text or "fine" in text) for text in completions]


@pytest.fixture
def task(families, tmp_path):
    """The options of an oracle with two experts; keywords replace them."""
    made = families("llama")
    file = tmp_path / "prompts.jsonl"
    prompts = ["Tell me about green tea.", "Why a lost key?", "Help, the night train!"]
    file.write_text(
        "".join(json.dumps({"prompt": p, "n": i}) + "\n" for i, p in enumerate(prompts))
    )

    def options(**changed):
        asked = {
            "models": made["models"][:2],
            "rewards": {"long": words, "kind": kind},
            "prompts": file,
            "format": FORM,
            "new_tokens": 16,
            "device": "cpu",
            **changed,
        }
        return {name: value for name, value in asked.items() if value is not ...}

    options.base = made["base"]
    options.file = file
    return options


def alone(folders, reference, prompt, weights, temperature=0.0, tokens=16):
    """Decoded with plain forward passes over the whole text: tokens, text, −log π_ref."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders[0])
    models = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in folders]
    ref = AutoModelForCausalLM.from_pretrained(reference).eval()
    ids = tokenizer(FORM.format(prompt=prompt), return_tensors="pt")["input_ids"]
    start, nats = ids.shape[1], 0.0
    with torch.no_grad():
        while ids.shape[1] < start + tokens:
            steps = [m(ids).logits[0, -1].log_softmax(-1) for m in models]
            token = sum(w * step for w, step in zip(weights, steps, strict=True)).argmax()
            nats -= ref(ids).logits[0, -1].log_softmax(-1)[token].item()
            ids = torch.cat([ids, token.view(1, 1)], dim=1)
            if token == tokenizer.eos_token_id:
                break
    text = tokenizer.decode(ids[0, start:], skip_special_tokens=True)
    return text.strip(), nats


class TestWhatItAnswers:
    def test_it_keeps_the_rules(self, task, tmp_path):
        report = check_conformance(
            lambda: ModOracle(**task(artifact_dir=tmp_path / "artifacts")),
        )
        assert set(report.skipped) <= {"bounds"}
        assert report.measured_delta >= 0

    def test_it_keeps_the_rules_when_it_samples_and_measures(self, task):
        # f is measured in float32, whose last digits depend on what is in the batch
        report = check_conformance(
            lambda: ModOracle(
                **task(
                    reference=task.base, beta=0.01, temperature=0.7, samples=2, run_seed=3, delta=1
                )
            ),
            tolerance=1e-5,
        )
        assert set(report.skipped) <= {"bounds"}
        assert all(policy.regularizer > 0 for policy in report.policies)

    def test_responses_and_regularizer_are_those_of_each_weight_alone(self, task, tmp_path):
        options = task(reference=task.base, beta=0.5, artifact_dir=tmp_path)
        oracle = ModOracle(**options)
        policies = list(oracle.solve(WEIGHTS))
        texts = set()
        for row, policy in zip(WEIGHTS, policies, strict=True):
            assert policy.artifact == weight_id(row)
            responses = read_responses(tmp_path / policy.artifact)
            assert responses.columns == {"n": (0, 1, 2)}
            for i, prompt in enumerate(responses.prompts):
                text, nats = alone(options["models"], task.base, prompt, row)
                assert responses.completions[i] == (text,)
                assert policy.prompt_regularizer[i] == pytest.approx(0.5 * nats, abs=1e-3)
                assert policy.prompt_rewards[i].tolist() == [
                    *words([prompt], [text]),
                    *kind([prompt], [text]),
                ]
                texts.add((prompt, text))
            assert policy.regularizer == pytest.approx(policy.prompt_regularizer.mean())
            errors = policy.prompt_rewards.std(axis=0, ddof=1) / np.sqrt(3)
            assert policy.reward_errors == pytest.approx(errors)
        # otherwise this compares nothing
        assert len(texts) > 3
        assert oracle.counts.rows < oracle.counts.alone

    def test_without_a_reference_f_is_nothing(self, task):
        (policy,) = ModOracle(**task()).solve(WEIGHTS[:1])
        assert policy.regularizer == 0
        assert policy.prompt_regularizer is None
        assert policy.info["regularizer"] == "0: no reference is given"

    def test_the_same_responses_have_the_same_name(self, task):
        near = np.array([[0.0, 1.0], [1e-9, 1 - 1e-9], [1.0, 0.0]])
        first, second, other = ModOracle(**task()).solve(near)
        assert first.id == second.id != other.id

    @pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
    def test_lora_experts_with_their_base_as_reference(self, task, adapters):
        made = adapters("llama")
        oracle = ModOracle(
            **task(
                models=...,
                base=made["base"],
                adapters=made["adapters"][:2],
                reference=made["base"],
                beta=0.1,
            )
        )
        policies = list(oracle.solve(WEIGHTS))
        assert len({policy.id for policy in policies}) > 1
        assert all(policy.regularizer > 0 for policy in policies)

    def test_jensen_shannon_differs_from_reverse_kl_and_needs_its_reference(self, task):
        # the published code takes one for the other
        with pytest.raises(InputError, match="requires 'reference'"):
            ModOracle(**task(divergence="jensen-shannon"))
        options = task(divergence="jensen-shannon", reference=task.base, new_tokens=24)
        rows = np.linspace(0.05, 0.95, 19)
        rows = np.stack([rows, 1 - rows], axis=1)
        ids = [policy.id for policy in ModOracle(**options).solve(rows)]
        plain = [policy.id for policy in ModOracle(**task(new_tokens=24)).solve(rows)]
        assert ids != plain

    def test_samples_depend_on_the_seed_of_the_run(self, task):
        ids = [
            [p.id for p in ModOracle(**task(temperature=1.0, run_seed=seed)).solve(WEIGHTS)]
            for seed in (0, 1, 0)
        ]
        assert ids[0] == ids[2] != ids[1]

    def test_a_prompt_of_another_length_is_dropped_where_that_is_asked(self, task):
        (policy,) = ModOracle(**task(longest=25, others="drop")).solve(WEIGHTS[:1])
        assert len(policy.prompt_rewards) == 2


class TestWhatItCosts:
    def test_each_different_response_is_scored_once(self, task):
        seen = []

        def counted(prompts, completions):
            seen.extend(zip(prompts, completions, strict=True))
            return words(prompts, completions)

        oracle = ModOracle(**task(rewards={"long": counted, "kind": kind}))
        many = np.linspace(0, 1, 40)
        policies = list(oracle.solve(np.stack([many, 1 - many], axis=1)))
        assert len(seen) == len(set(seen))
        assert 3 < len(seen) < 40 * 3
        assert len({policy.id for policy in policies}) > 2
        before = len(seen)
        list(oracle.solve(WEIGHTS[[0, 4]]))
        assert len(seen) == before

    def test_making_one_loads_nothing(self, task):
        oracle = ModOracle(**task(models=["nowhere/at-all", "nowhere/either"]))
        assert oracle.objectives == ("long", "kind")
        with pytest.raises(InputError, match=r"models\[0\] = 'nowhere/at-all'"):
            next(oracle.solve(WEIGHTS))


class TestFingerprint:
    def test_it_changes_with_what_answers_depend_on(self, task, tmp_path):
        models = []
        for number, folder in enumerate(task()["models"]):
            models.append(str(tmp_path / f"expert-{number}"))
            shutil.copytree(folder, models[-1])
        known = ModOracle(**task(models=models)).fingerprint
        assert ModOracle(**task(models=models, rows=3, cache=tmp_path)).fingerprint == known
        for changed in (
            {"new_tokens": 17},
            {"divergence": "forward-kl"},
            {"temperature": 0.5},
            {"format": "plain"},
            {"rewards": {"long": words, "kind": words}},
            {"first": 2},
            {"models": models[::-1]},
        ):
            assert ModOracle(**task(**{"models": models, **changed})).fingerprint != known
        text = task.file.read_text()
        task.file.write_text(text.replace("tea", "Tea"))
        assert ModOracle(**task(models=models)).fingerprint != known
        task.file.write_text(text)
        assert ModOracle(**task(models=models)).fingerprint == known
        config = Path(models[0]) / "config.json"
        config.write_text(config.read_text() + "\n")
        assert ModOracle(**task(models=models)).fingerprint != known

    def test_the_text_of_a_reward_of_ones_own_counts(self, task, tmp_path):
        module = tmp_path / "my_own_rewards.py"
        table = {"long": "my_own_rewards:mine", "kind": kind}
        module.write_text("def mine(prompts, completions): return [1.0] * len(prompts)\n")
        oracle = ModOracle(**task(rewards=table, folder=tmp_path))
        known = oracle.fingerprint
        module.write_text("def mine(prompts, completions): return [2.0] * len(prompts)\n")
        assert oracle.fingerprint != known


class TestWhatItRefuses:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"models": ["a", "b", "c"]}, r"models: 3 for 2 rewards \(long, kind\)"),
            ({"models": "a"}, "models = 'a': must be a list"),
            ({"models": ...}, "must be given by 'models', or by 'base' and 'adapters'"),
            ({"adapters": ["a", "b"]}, "must be given by 'models', or by"),
            ({"base": "a"}, "base: must be given exactly if 'adapters'"),
            ({"rewards": {"long": words}}, "rewards = .*at least two"),
            ({"rewards": {"long": words, "kind": 3}}, "rewards.kind = 3: must be"),
            (
                {"rewards": {"long": words, "kind": {"name": "regex", "patern": "x"}}},
                "rewards.kind: .*patern.*did you mean 'pattern'",
            ),
            ({"prompts": Path("no/such.jsonl")}, "no/such.jsonl: no such file of prompts"),
            ({"samples": 2}, "samples = 2: must be 1, or temperature above 0"),
            ({"beta": 0.1}, "beta = 0.1: requires 'reference'"),
            ({"beta": -1.0}, "beta = -1"),
            ({"reference": "r"}, "reference = 'r': requires beta above 0"),
            ({"divergence": "jsd"}, "divergence = 'jsd': must be one of reverse-kl"),
            ({"format": "no place"}, "format = 'no place'"),
            ({"published": 1}, "published = 1: must be true or false"),
            ({"published": True, "beta": 1.0, "reference": "r"}, "published = true: has no"),
            ({"skip": 3}, "3 prompts, must have at least one after skip = 3"),
            ({"first": 4}, "3 prompts, must have 4 after skip = 0"),
            ({"rows": 0}, "rows = 0"),
        ],
    )
    def test_a_wrong_option_is_one_line_that_names_it(self, task, changed, message):
        with pytest.raises(InputError, match=message) as found:
            ModOracle(**task(**changed))
        assert "\n" not in str(found.value)

    def test_an_unknown_reward_is_named(self, task):
        with pytest.raises(InputError, match="rewards.long: unknown reward 'lenght'.*Did you mean"):
            ModOracle(**task(rewards={"long": "lenght", "kind": kind}))

    def test_an_unknown_option_is_named(self, task):
        with pytest.raises(InputError, match="tempreture.*did you mean 'temperature'"):
            load_oracle("palm_mod.mod:ModOracle", **task(), tempreture=1.0)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "line 2: is not JSON"),
            ("[1]", 'line 2: must be an object with "prompt"'),
            ('{"prompt": 1, "n": 1}', "line 2: prompt"),
            ('{"prompt": "a"}', "line 2: columns differ from those of the first"),
        ],
    )
    def test_a_bad_line_of_prompts_is_named(self, task, line, message):
        task.file.write_text('{"prompt": "a", "n": 1}\n' + line + "\n")
        with pytest.raises(InputError, match=message):
            ModOracle(**task())

    def test_a_reward_that_is_no_number_names_its_prompt(self, task):
        def bad(prompts, completions):
            return [float("nan")] * len(prompts)

        oracle = ModOracle(**task(rewards={"long": bad, "kind": kind}))
        with pytest.raises(WorkError, match="reward 'long' of completion 0"):
            list(oracle.solve(WEIGHTS))

    def test_a_table_may_name_rewards_and_give_options(self):
        table = {
            "short": {"name": "length", "unit": "words", "sign": -1},
            "long": "length",
        }
        found = load_rewards(table, None)
        assert [found[name](["?"], ["a b"]) for name in table] == [[-2.0], [3.0]]


class TestRuns:
    def test_workers_and_batches_change_nothing(self, task, tmp_path):
        made = {}
        for name, how in (
            ("here", Execution(executor="here")),
            ("two", Execution(workers=2, batch=4, threads=1)),
        ):
            folder = tmp_path / name
            oracle = ModOracle(**task(artifact_dir=folder / ARTIFACTS))
            build_portfolio(oracle, mu=0.5, alpha=0.2, prune_mu=0.01, run_dir=folder, execution=how)
            made[name] = (folder / "portfolio.json").read_bytes()
            document = json.loads(made[name])
            assert document["oracle_calls"] > 8
            # nothing is claimed, so nothing is certified beyond what was found
            assert document["certificate"] is None
        assert made["here"] == made["two"]

    def test_a_run_that_failed_goes_on_where_it_stood(self, task, tmp_path):
        state = {"left": 3}

        def fragile(prompts, completions):
            state["left"] -= 1
            if state["left"] < 0:
                raise RuntimeError("no more")
            return words(prompts, completions)

        def run(name, rewards):
            oracle = ModOracle(**task(artifact_dir=tmp_path / name / ARTIFACTS, rewards=rewards))
            how = Execution(executor="here", batch=2, retries=0)
            build_portfolio(
                oracle, mu=0.5, alpha=0.2, prune_mu=0.01, run_dir=tmp_path / name, execution=how
            )
            return (tmp_path / name / "portfolio.json").read_bytes()

        rewards = {"long": fragile, "kind": kind}
        assert json.loads(run("broken", rewards))["missing"]
        state["left"] = 10**6
        assert run("broken", rewards) == run("straight", rewards)
