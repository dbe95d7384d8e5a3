"""What the oracle `grpo` may be asked for, and which options of TRL that means."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields

import pytest

from palm_core import InputError, load_oracle
from palm_core.plugin import load_task, load_task_oracle
from palm_trl import GrpoOracle
from palm_trl.options import OURS, RECIPES, trainer_options, trl_names

REWARDS = {"brevity": {"name": "length", "sign": -1}, "right": "gsm"}


@pytest.fixture
def asked(tmp_path):
    """Make an oracle on prompts that are there and a model that nobody has loaded."""
    lines = [json.dumps({"prompt": f"{n}+1?", "ground_truth": str(n + 1)}) for n in range(9)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")

    def make(**options):
        given = {"model": "model", "rewards": REWARDS, "prompts": "prompts.jsonl"} | options
        return GrpoOracle(**({"task_dir": tmp_path} | given))

    return make


class TestRecipes:
    def test_every_option_of_a_recipe_is_one_of_trls(self):
        for (_, algorithm), recipe in RECIPES.items():
            assert set(recipe) <= set(trl_names(algorithm))
            assert not set(recipe) & set(OURS)

    def test_what_palm_sets_is_there_to_be_set(self):
        known = {*trl_names("grpo"), *trl_names("rloo")}
        assert set(OURS) <= known

    def test_the_default_takes_j(self, asked):
        made = asked()
        assert (made.algorithm, made.tuning, made.beta) == ("grpo", "lora", 0.01)
        assert made.options["scale_rewards"] == "none"
        assert made.options["use_bias_correction_kl"] is True
        assert made.options["multi_objective_aggregation"] == "sum_then_normalize"

    def test_the_paper_is_taken_at_its_word(self, asked):
        made = asked(preset="paper")
        told = made.options
        assert (made.beta, made.steps, made.new_tokens, made.tuning) == (0.01, 208, 256, "full")
        assert (told["scale_rewards"], told["learning_rate"]) == ("group", 5e-7)
        assert told["num_generations"] == 4
        assert told["bf16"] is True
        # 48 prompts a step, 4 responses each; 208 steps are 40 000 episodes
        batch = told["per_device_train_batch_size"] * told["gradient_accumulation_steps"]
        assert batch == 48 * 4
        assert 208 * batch == pytest.approx(40_000, rel=0.002)

    def test_a_preset_is_a_beginning(self, asked):
        made = asked(preset="paper", steps=3, beta=0, trainer={"num_generations": 8})
        assert (made.steps, made.beta, made.options["num_generations"]) == (3, 0.0, 8)

    def test_full_tuning_learns_more_slowly(self, asked):
        rates = [asked(tuning=tuning).options["learning_rate"] for tuning in ("lora", "full")]
        assert rates[0] > rates[1]


class TestWhatItRefuses:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"algorithm": "ppo"}, "algorithm = 'ppo': must be one of grpo, rloo"),
            (
                {"algorithm": "rloo", "preset": "paper"},
                "preset = 'paper': must be 'objective' with algorithm",
            ),
            ({"preset": "mine"}, "preset = 'mine': must be one of objective, paper"),
            ({"tuning": "qlora"}, "tuning = 'qlora': must be one of lora, full"),
            ({"beta": -1}, "beta = -1: must be"),
            ({"temperature": 0}, "temperature = 0: must be"),
            ({"steps": 0}, "steps = 0: must be"),
            ({"samples": 1.5}, "samples = 1.5: must be"),
            ({"kl": "k3"}, "kl = 'k3': must be one of sequence, token"),
            ({"start": "next"}, "start = 'next': must be one of base, nearest"),
            ({"start": "nearest", "tuning": "full"}, "start = 'nearest': requires tuning = 'lora'"),
            ({"warm_steps": 3}, "warm_steps = 3: requires start = 'nearest'"),
            ({"tuning": "full", "lora": {"r": 4}}, "lora: requires tuning = 'lora'"),
            ({"lora": [4]}, r"lora = \[4\]: must be a table"),
            ({"model": ""}, "model = '': must be a folder or a name"),
            ({"tokenizer": 3}, "tokenizer = 3: must be a folder or a name"),
            ({"launcher": "slurm"}, "launcher = 'slurm': must be one of"),
            ({"processes": 2}, "processes = 2: must be 1 with launcher = 'python'"),
            ({"launch": ["--x"]}, "launch: requires launcher = 'torchrun'"),
            ({"launcher": "torchrun", "launch": "--x"}, "launch = '--x': must be a list"),
            ({"rewards": {"a": "gsm"}}, "rewards = .*: must be a table with a reward for each"),
            ({"rewards": {"a": len, "b": "gsm"}}, "rewards.a: is a function"),
            ({"prompts": 3}, "prompts = 3: must be a file, a folder"),
            ({"prompts": "none.jsonl"}, "prompts = 'none.jsonl': no such file in "),
            ({"evaluation": "none.parquet"}, "evaluation = 'none.parquet': no such file in "),
            ({"trainer": {"learning_rate": "fast"}}, "trainer.learning_rate = 'fast': "),
            ({"format": "Q:"}, "format = 'Q:': must be"),
            ({"trainer": {"scale_reward": "none"}}, "no such option; did you mean 'scale_rewards'"),
            ({"trainer": {"max_steps": 3}}, r"trainer.max_steps: is set by \[oracle\] steps"),
            ({"trainer": {"seed": 3}}, r"trainer.seed: is set by \[run\] seed"),
            ({"trainer": {"num_generations": 5}}, "num_generations = 5: 8 per device × 1 proc"),
            ({"trainer": {"num_generations": 1}}, "trainer.num_generations = 1: must be"),
            (
                {"trainer": {"generation_batch_size": 12}},
                "num_generations = 8: generation_batch_size = 12 a batch, must be a multiple",
            ),
        ],
    )
    def test_it_is_named(self, asked, options, said):
        with pytest.raises(InputError, match=said) as refused:
            asked(**options)
        assert "\n" not in str(refused.value)

    def test_what_several_processes_have_together_is_divided(self, asked):
        trainer = {
            "per_device_train_batch_size": 3,
            "gradient_accumulation_steps": 1,
            "num_generations": 6,
        }
        with pytest.raises(InputError, match="= 3 completions a batch"):
            asked(trainer=trainer)
        asked(trainer=trainer, launcher="torchrun", processes=2)

    def test_an_option_that_the_other_algorithm_has(self):
        with pytest.raises(InputError, match="trainer.loss_type: TRL's rloo has no such option"):
            trainer_options("rloo", "objective", "lora", {"loss_type": "grpo"})


class TestWhatItIs:
    def test_a_function_is_a_reward_in_this_process(self, asked):
        made = asked(rewards={"a": len, "b": "gsm"}, launcher="here")
        assert made.objectives == ("a", "b")

    def test_a_setting_changes_the_fingerprint(self, asked):
        plain = asked().fingerprint
        assert asked().fingerprint == plain
        for options in (
            {"beta": 0.1},
            {"steps": 7},
            {"kl": "token"},
            {"run_seed": 1},
            {"samples": 3},
            {"trainer": {"learning_rate": 1.0}},
            {"lora": {"r": 4}},
            {"evaluation": {"path": "prompts.jsonl", "first": 3}},
            {"rewards": {**REWARDS, "right": "math"}},
        ):
            assert asked(**options).fingerprint != plain, options

    def test_where_and_how_it_is_run_does_not(self, asked, tmp_path):
        plain = asked().fingerprint
        for options in (
            {"rows": 3},
            {"device": "cpu"},
            {"launcher": "here"},
            {"checkpoint_every": 3},
            {"epsilon": 0.0, "delta": 0.1},
            {"work_dir": tmp_path, "artifact_dir": tmp_path},
        ):
            assert asked(**options).fingerprint == plain, options

    def test_the_model_and_the_prompts_are_part_of_it(self, asked, tmp_path):
        plain = asked().fingerprint
        (tmp_path / "model" / "more.txt").write_text("x", encoding="utf-8")
        other = asked().fingerprint
        assert other != plain
        with (tmp_path / "prompts.jsonl").open("a", encoding="utf-8") as file:
            file.write('\n{"prompt": "?", "ground_truth": "1"}')
        assert asked().fingerprint != other

    def test_the_options_go_through_json_and_are_the_same(self, asked):
        made = asked(preset="paper", trainer={"num_generations": 8}, evaluation={"path": "x"})
        again = GrpoOracle(**json.loads(json.dumps(made.plain_options())))
        assert again.options == made.options
        assert again.plain_options() == made.plain_options()

    def test_making_one_loads_no_torch(self, asked, tmp_path):
        code = (
            "import sys; from palm_trl import GrpoOracle\n"
            f"GrpoOracle(model='model', rewards={REWARDS!r}, prompts='prompts.jsonl', "
            f"task_dir={str(tmp_path)!r})\n"
            "print(sorted({'torch', 'trl', 'transformers', 'datasets'} & set(sys.modules)))"
        )
        asked()
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert ran.stdout.strip() == "[]"


def test_a_task_gives_its_folder_and_its_seed(tmp_path):
    """Names in a task file are relative to it."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "1+1?"}\n', encoding="utf-8")
    (tmp_path / "model").mkdir()
    task = tmp_path / "task.toml"
    task.write_text(
        """
        [oracle]
        name = "grpo"
        model = "model"
        prompts = "prompts.jsonl"
        [oracle.rewards]
        short = { name = "length", sign = -1 }
        long = "length"
        [grid]
        mu = 0.5
        alpha = 0.5
        [run]
        seed = 5
        """,
        encoding="utf-8",
    )
    made = load_task_oracle(load_task(task), tmp_path / "run" / "artifacts")
    assert made.run_seed == 5
    assert made.source.name == str(tmp_path / "model")
    assert made.training_prompts.texts == ("1+1?",)
    assert made.work_dir == tmp_path / "run" / "work"
    with pytest.raises(InputError, match="modle: unknown option of 'grpo'; did you mean 'model'"):
        load_oracle("grpo", modle="x", rewards=REWARDS, prompts="p.jsonl")


def test_help_tells_of_every_option():
    lines = re.findall(r"^ *([a-z_]+(?:, [a-z_]+)*): ", GrpoOracle.__doc__, re.MULTILINE)
    told = {name for line in lines for name in line.split(", ")}
    assert {one.name for one in fields(GrpoOracle) if not one.name.startswith("_")} <= told
