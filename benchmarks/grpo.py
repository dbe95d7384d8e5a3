"""GRPO: what the oracle costs beside plain TRL, which settings reach the best J, warm starts.

    python benchmarks/grpo.py                    all parts; half an hour on two cores
    python benchmarks/grpo.py overhead           one part: overhead, settings or warm
    python benchmarks/grpo.py --quick            a few steps of each, to see that it runs

All on the task of examples/gsm_mini.toml, whose model is made first, with one thread for
each of ``--jobs`` processes. J_w = w·r − β·KL is measured by palm_trl.measuring with the same
64 questions, 8 responses to each and the same random numbers for all.

* ``overhead``: palm_trl.training.train against TRL's own trainer with the same configuration,
  seed and rewards, in one process and in turns. The oracle's includes its checkpoints, curves
  and the saved policy. Aim: less than 5 % more time. What plain TRL does not do (measuring) and
  what a call in a process of its own adds is told apart.
* ``settings``: algorithm grpo with TRL's options as PALM sets them (the baseline), as the paper
  has them (scaled: its options, but the same tuning, steps and completions a step as the
  others), and algorithm rloo. Each has the best of four learning rates at w = (½, ½), found
  with another seed. Aim: none is better than PALM's default.
* ``warm``: ``start = "nearest"`` against starting from the model, with all, half and a quarter
  of the steps, at weights halfway between four finished policies. Slack is what another policy
  found is better by. Aim: the quarter loses nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES = Path(__file__).parents[1] / "examples"
RATES = (5e-4, 1e-3, 2e-3, 4e-3)
TUNED_WITH = 1000  # a seed that nothing else has
SETTINGS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "grpo, paper": {
        "preset": "paper",
        "tuning": "lora",
        "trainer": {"bf16": False, "optim": "adamw_torch_fused"},
    },
    "rloo": {"algorithm": "rloo"},
}
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of helpfulness
BETWEEN = (0.125, 0.375, 0.625, 0.875)


@dataclass(frozen=True)
class Job:
    """One policy to train and measure."""

    folder: Path
    made: Path
    weight: float
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    start: Path | None = None


@dataclass(frozen=True)
class Found:
    """What came out of it."""

    rewards: Any
    regularizer: float
    seconds: float

    def objective(self, weight: float) -> float:
        """J at any weight of helpfulness."""
        return float(self.rewards @ [1 - weight, weight] - self.regularizer)


def oracle_of(made: Path, seed: int, options: dict[str, Any]) -> Any:
    """The oracle of gsm_mini.toml with other options."""
    from palm_core.task import load_task
    from palm_trl import GrpoOracle

    task = load_task(EXAMPLES / "gsm_mini.toml")
    given = {name: value for name, value in task.options.items() if name != "name"}
    for name in ("model", "prompts", "evaluation"):
        given[name] = given[name].replace("gsm/made", str(made))
    trainer = {**given.pop("trainer"), **options.get("trainer", {})}
    given |= options | {"trainer": trainer, "launcher": "here"}
    return GrpoOracle(task_dir=EXAMPLES, run_seed=seed, **given)


def quiet() -> None:
    """One thread, no progress bars."""
    import logging
    import warnings

    import torch
    from transformers.utils import logging as told

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    told.disable_progress_bar()
    told.set_verbosity_error()
    logging.disable(logging.WARNING)


def perform(job: Job) -> Found:
    """Train and measure; in a process of the pool."""
    from palm_trl.measuring import measure
    from palm_trl.training import train

    oracle = oracle_of(job.made, job.seed, job.options)
    taken = job.folder / "seconds"
    if not taken.exists():
        begin = time.perf_counter()
        train(oracle, np.array([1 - job.weight, job.weight]), job.folder, start=job.start)
        taken.write_text(str(time.perf_counter() - begin), encoding="ascii")
    seconds = float(taken.read_text(encoding="ascii"))
    found = measure(oracle, job.folder / "policy", seed=0)
    f = float(found.prompt_regularizer(oracle.beta).mean())
    return Found(found.mean_rewards, f, seconds)


def mean_and_error(values: Any) -> str:
    """The mean with its standard error, where there are several."""
    values = list(values)
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):+.4f} ± {error:.4f}"


class Bench:
    """The parts, and the policies that they share."""

    def __init__(self, given: argparse.Namespace, made: Path, root: Path, pool: Any) -> None:
        self.given, self.made, self.root, self.pool = given, made, root, pool
        self.seeds = range(given.seeds)
        self.steps = given.steps
        self.rates: dict[str, float] = {}
        self.found: dict[tuple[str, float, int], Found] = {}

    def run(self, jobs: dict[Any, Job]) -> dict[Any, Found]:
        """All jobs, by their keys."""
        return dict(zip(jobs, self.pool.map(perform, jobs.values(), chunksize=1), strict=True))

    def job(self, name: str, weight: float, seed: int, rate: float, **more: Any) -> Job:
        """A job of a setting; ``label`` tells its folder apart, ``start`` is an adapter."""
        options = dict(SETTINGS[name])
        trainer = {**options.get("trainer", {}), "learning_rate": rate}
        if name == "grpo, paper":  # 8 prompts times 4 responses, for 4 times 8
            trainer |= {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 1}
        options |= {"trainer": trainer, "steps": more.get("steps", self.steps)}
        label = more.get("label", name).replace(", ", "-")
        folder = self.root / label / f"{weight}-{seed}-{rate}"
        return Job(folder, self.made, weight, seed, options, more.get("start"))

    def rate(self, name: str) -> float:
        """The learning rate of a setting, tuned once."""
        if name not in self.rates:
            found = self.run({r: self.job(name, 0.5, TUNED_WITH, r) for r in RATES})
            reached = {rate: one.objective(0.5) for rate, one in found.items()}
            self.rates[name] = max(reached, key=lambda rate: reached[rate])
            told = ", ".join(f"{rate:g}: {value:.4f}" for rate, value in reached.items())
            print(f"  learning rate of {name}: {self.rates[name]:g}  (J: {told})", flush=True)
        return self.rates[name]

    def setting(self, name: str) -> None:
        """Train all weights and seeds of a setting."""
        keys = [(name, weight, seed) for weight in WEIGHTS for seed in self.seeds]
        jobs = {key: self.job(*key, self.rate(name)) for key in keys if key not in self.found}
        self.found |= self.run(jobs)

    def settings(self) -> None:
        """J of each setting."""
        print(f"\nsettings: {self.steps} steps, {len(self.seeds)} seeds, J at 5 weights")
        for name in SETTINGS:
            self.setting(name)
        keys = [(weight, seed) for weight in WEIGHTS for seed in self.seeds]
        reached = {
            name: {key: self.found[name, *key].objective(key[0]) for key in keys}
            for name in SETTINGS
        }
        head = "".join(f"{f'w={1 - w:g},{w:g}':>13}" for w in WEIGHTS)
        print(f"  {'setting':12}{head}         J, all  wins  minus grpo            KL  s a policy")
        for name, values in reached.items():
            each = "".join(
                f"{statistics.mean(values[w, s] for s in self.seeds):13.4f}" for w in WEIGHTS
            )
            wins = sum(values[key] == max(other[key] for other in reached.values()) for key in keys)
            minus = mean_and_error(values[key] - reached["grpo"][key] for key in keys)
            several = [self.found[name, *key] for key in keys]
            beta = 0.01
            kl = statistics.mean(one.regularizer for one in several) / beta
            took = statistics.mean(one.seconds for one in several)
            overall = statistics.mean(values.values())
            print(
                f"  {name:12}{each} {overall:14.4f} {wins:2}/{len(keys)}  {minus}"
                f" {kl:9.2f} {took:8.1f}",
                flush=True,
            )
        best = max(reached, key=lambda name: statistics.mean(reached[name].values()))
        print(
            f"  best: {best}; aim (none better than grpo) {'met' if best == 'grpo' else 'not met'}"
        )

    def warm(self) -> None:
        """Starting from the nearest policy, and from the model."""
        print(f"\nwarm: {len(self.seeds)} seeds, weights between, grpo")
        self.setting("grpo")
        rate, jobs = self.rate("grpo"), {}
        for weight in BETWEEN:
            for seed in self.seeds:
                near = weight - 0.125 if weight < 0.5 else weight + 0.125
                adapter = self.job("grpo", near, seed, rate).folder / "policy"
                for part in (1, 2, 4):
                    for way, start in (("cold", None), ("warm", adapter)):
                        steps = max(1, self.steps // part)
                        more = {"steps": steps, "label": f"{way}-{part}", "start": start}
                        jobs[way, part, weight, seed] = self.job("grpo", weight, seed, rate, **more)
        found = self.run(jobs)
        keys = [(weight, seed) for weight in BETWEEN for seed in self.seeds]
        full = {key: found["cold", 1, *key].objective(key[0]) for key in keys}
        print("  start  steps        J  minus cold, all steps  slack, mean and most  s a policy")
        for part in (1, 2, 4):
            for way in ("cold", "warm"):
                several = {key: found[way, part, *key] for key in keys}
                own = {key: one.objective(key[0]) for key, one in several.items()}
                slack = []
                for weight, seed in keys:  # as in a run of its own: anchors and these
                    run = [
                        one for key, one in self.found.items() if (key[0], key[2]) == ("grpo", seed)
                    ]
                    run += [several[other, seed] for other in BETWEEN]
                    best = max(one.objective(weight) for one in run)
                    slack.append(best - own[weight, seed])
                took = statistics.mean(one.seconds for one in several.values())
                minus = mean_and_error(own[key] - full[key] for key in keys)
                steps, reached = max(1, self.steps // part), statistics.mean(own.values())
                lost = f"{statistics.mean(slack):.4f}  {max(slack):.4f}"
                print(
                    f"  {way:5} {steps:6} {reached:8.4f}  {minus:>21}      {lost} {took:11.1f}",
                    flush=True,
                )

    def overhead(self) -> None:
        """The oracle's training beside plain TRL's."""
        from palm_trl.launching import run_call
        from palm_trl.measuring import measure
        from palm_trl.training import train

        print(f"\noverhead: {self.steps} steps, {self.given.rounds} times each, in turns")
        oracle, weights = oracle_of(self.made, 0, {"steps": self.steps}), np.array([0.5, 0.5])
        plain, ours, logs = [], [], []
        for number in range(self.given.rounds + 1):  # the first of each is not counted
            folder = self.root / "overhead" / str(number)
            begin = time.perf_counter()
            logs = plain_trl(oracle, weights, folder / "plain")
            middle = time.perf_counter()
            train(oracle, weights, folder / "ours")
            plain.append(middle - begin)
            ours.append(time.perf_counter() - middle)
        import json

        lines = (folder / "ours" / "training.jsonl").read_text(encoding="utf-8").splitlines()
        rewards = [json.loads(line)["reward"] for line in lines]
        wanted = [line["reward"] for line in logs if "reward" in line]
        same = f"rewards differ by at most {max(map(abs, np.subtract(rewards, wanted))):g}"
        plain, ours = plain[1:], ours[1:]
        ratios = [ours[i] / plain[i] - 1 for i in range(len(ours))]
        over = statistics.median(ratios)
        print(f"  plain TRL  {statistics.median(plain):7.2f} s   {len(wanted)} steps")
        print(f"  oracle     {statistics.median(ours):7.2f} s   {len(rewards)} steps, {same}")
        each = ", ".join(f"{ratio:+.1%}" for ratio in ratios)
        met = "met" if over < 0.05 else "not met"
        print(f"  overhead   {over:+7.1%}     (of each round: {each}); aim < 5 %: {met}")
        begin = time.perf_counter()
        measure(oracle, folder / "ours" / "policy")
        measuring = time.perf_counter() - begin
        oracle.launcher = "python"
        begin = time.perf_counter()
        run_call(oracle, weights, self.root / "overhead" / "call")
        whole = time.perf_counter() - begin
        start = whole - measuring - statistics.median(ours)
        print(f"  measuring  {measuring:7.2f} s   512 responses")
        print(f"  a call     {whole:7.2f} s   of which its process, starting: {start:.2f} s")


def plain_trl(oracle: Any, weights: Any, folder: Path) -> list[dict[str, Any]]:
    """What a user of TRL would write; with the configuration that the oracle has."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    from palm_trl.config import trainer_config
    from trl import GRPOTrainer

    config = trainer_config(oracle, weights, folder)
    config.save_strategy = "no"
    prompts = oracle.training_prompts
    texts = [oracle.format.format(prompt=text) for text in prompts.texts]
    rows = Dataset.from_dict({"prompt": texts, **prompts.columns})
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(oracle.source.name),
        args=config,
        reward_funcs=list(oracle.functions.values()),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(oracle.source.name),
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(folder))
    return list(trainer.state.log_history)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help="overhead, settings, warm; all by default")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--root", type=Path, help="where policies are kept, and found again")
    given = parser.parse_args()
    parts = given.parts or ["overhead", "settings", "warm"]
    if unknown := set(parts) - {"overhead", "settings", "warm"}:
        parser.error(f"{unknown.pop()!r}: must be overhead, settings or warm")
    if given.quick:
        given.steps, given.seeds, given.rounds = 8, 1, 1
    quiet()
    sys.path.insert(0, str(EXAMPLES))
    from gsm.make_model import make

    root = given.root or Path(tempfile.mkdtemp(prefix="palm-grpo-benchmark-"))
    try:
        made = root.resolve() / "made"
        if not made.exists():
            make(made)
        context = multiprocessing.get_context("spawn")
        with context.Pool(given.jobs, initializer=quiet) as pool:
            bench = Bench(given, made, root, pool)
            for part in parts:
                begin = time.perf_counter()
                getattr(bench, part)()
                print(f"  ({part}: {time.perf_counter() - begin:.0f} s)", flush=True)
    finally:
        if given.root is None:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
