"""Does what is installed work, away from the checkout? ``nox -s release-check`` asks.

    python -I release/installed.py DIST CHECKOUT EXAMPLES HELPERS

in an environment into which the wheels in DIST were installed, and in a folder that is not
the checkout's: EXAMPLES is a copy of examples/, HELPERS one of the modules that make tiny
models. Every oracle, reward function and metric that our wheels announce goes through the
conformance suites that we give to others.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import EntryPoint, distribution, entry_points
from pathlib import Path
from typing import Any

NAMES = ("palm-core", "palm-eval", "palm-mod", "palm-trl")
WEIGHTS = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
FORM = "USER: {prompt} ASSISTANT: "
ANSWERS = ["So it is 4.", "\\boxed{4}", "", "4,000", "No idea."]
Line = tuple[str, Callable[[], str]]


def check_place(name: str, dist: Path, checkout: Path) -> str:
    """It is in site-packages, came from our wheel, and the checkout is not on sys.path."""
    module = name.replace("-", "_")
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{module} is not to be found"
    assert spec.origin is not None, f"{module} has no file"
    place = Path(spec.origin).resolve()
    assert place.is_relative_to(Path(sysconfig.get_path("purelib")).resolve()), place
    for entry in sys.path:
        assert not Path(entry).resolve().is_relative_to(checkout), f"{entry} is on sys.path"
    installed = distribution(name)
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    (wheel,) = dist.glob(f"{module}-{installed.version}-*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert origin["archive_info"]["hashes"]["sha256"] == digest, "not the wheel that was built"
    return f"{installed.version}, from its wheel, in site-packages"


def announced() -> list[EntryPoint]:
    """All entry points of our distributions."""
    return [entry for name in NAMES for entry in distribution(name).entry_points]


def check_entry_points() -> str:
    """Every entry point leads to something that can be called, and is found by its name."""
    found = announced()
    for entry in found:
        assert callable(entry.load()), entry
        assert entry in entry_points(group=entry.group, name=entry.name), entry
    return f"{len(found)} lead somewhere"


def oracle_options(name: str, folder: Path) -> dict[str, Any]:
    """What an oracle of ours takes for a check on two objectives."""
    import tiny_models  # type: ignore[import-not-found]  # of HELPERS
    import tiny_tasks  # type: ignore[import-not-found]  # of HELPERS

    if name == "tabular":
        return {"objectives": ["helpful", "brief"], "prompts": 4, "responses": 20}
    prompts = tiny_tasks.save_prompts(folder / f"{name}.jsonl", 3)
    common = {"prompts": prompts, "device": "cpu", "new_tokens": 12}
    if name == "grpo":
        model = tiny_tasks.save_model(folder / "grpo-model")
        more = {"rewards": tiny_tasks.REWARDS, "steps": 2, "samples": 2, "beta": 0.05}
        place = {"launcher": "here", "task_dir": Path(tiny_tasks.__file__).parent}
        return {**common, **more, **place, "model": model, "trainer": tiny_tasks.TRAINER}
    if name in ("mod", "soup"):
        from palm_eval.rewards import length, regex

        family = tiny_models.save_family(folder / f"{name}-models", "llama")
        return {
            **common,
            "models": family["models"][:2],
            "rewards": {"long": length(unit="words"), "kind": regex(pattern="sorry|fine")},
            "format": FORM,
        }
    raise AssertionError(f"no options here for the oracle {name!r}: add them")


def check_oracle(name: str, folder: Path) -> str:
    """The oracle keeps the protocol."""
    from palm_core import load_oracle
    from palm_core.testing import check_conformance

    options = oracle_options(name, folder)
    report = check_conformance(lambda: load_oracle(name, **options), weights=WEIGHTS)
    return str(report)


def reward_options(name: str, folder: Path) -> dict[str, Any]:
    """What a reward function of ours cannot do without."""
    if name == "regex":
        return {"pattern": "[0-9]"}
    if name != "classifier":
        return {}
    import tiny_models  # of HELPERS
    from transformers import AutoModelForSequenceClassification

    tokenizer = tiny_models.make_tokenizer()
    config = tiny_models.make_config("llama", len(tokenizer))
    config.num_labels = 1
    make: Any = AutoModelForSequenceClassification.from_config  # which has no types
    model = make(config)
    path = tiny_models.save_model(folder / "classifier", model, tokenizer)
    return {"model": path, "input": "chat", "device": "cpu"}


def check_reward_function(name: str, folder: Path) -> str:
    """The reward function keeps its word."""
    from palm_eval.rewards import load_reward
    from palm_eval.testing import check_reward

    columns: dict[str, list[Any]] = {
        "ground_truth": ["4"] * len(ANSWERS),
        "dataset": ["gsm8k", "MATH"] * 2 + ["MATH"],
    }
    columns["completion_ids"] = [list(range(len(text))) for text in ANSWERS]
    report = check_reward(
        load_reward(name, **reward_options(name, folder)),
        prompts=["What is 2 + 2?"] * len(ANSWERS),
        completions=ANSWERS,
        columns=columns,
        tolerance=1e-5,
    )
    return f"{len(report.checked)} rules hold"


def check_metric_function(name: str) -> str:
    """The metric keeps its word."""
    from palm_eval.testing import check_metric

    (entry,) = entry_points(group="palm.metrics", name=name)
    return f"{len(check_metric(entry.load()).checked)} rules hold"


def palm(*arguments: str) -> str:
    """Run the installed command; its output."""
    script = Path(sysconfig.get_path("scripts")) / "palm"
    ran = subprocess.run([script, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"palm {' '.join(arguments)}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def check_version() -> str:
    """The command says which version it is."""
    told = palm("--version").strip()
    assert distribution("palm-core").version in told, told
    return ", ".join(told.splitlines())


def check_oracles_listed() -> str:
    """The command lists the oracles that our wheels announce."""
    told = palm("oracles")
    names = [entry.name for entry in announced() if entry.group == "palm.oracles"]
    assert all(name in told for name in names), told
    return ", ".join(names)


def check_exporter(name: str) -> str:
    """The target of ``palm export`` loads and takes the options of the command."""
    from palm_core.oracles.registry import load_exporter

    options = dict.fromkeys(("out", "task", "base"))
    return str(load_exporter(name, options).__doc__).splitlines()[0]


def check_analysis(name: str) -> str:
    """The analysis of runs loads."""
    from palm_core.oracles.registry import load_analysis

    return str(load_analysis(name).__doc__).splitlines()[0]


def check_demo(examples: Path) -> str:
    """From a task to a portfolio, its evaluation and its page; and from a table."""
    task, models = str(examples / "quickstart/task.toml"), "models.csv"
    palm("build", task, "--out", "quickstart")
    palm("evaluate", "quickstart", "--task", task)
    palm("report", "quickstart", "--task", task, "--most", "5")
    make = [sys.executable, "-I", str(examples / "quickstart/make_models.py"), models]
    subprocess.run(make, check=True, capture_output=True)
    wishes = ("--maximize", "helpful", "safe", "--minimize", "cost", "--epsilon", "0.05", "--json")
    size = len(json.loads(palm("select", models, *wishes))["models"])
    kept = json.loads(Path("quickstart/portfolio.json").read_text(encoding="utf-8"))
    assert Path("quickstart/report.html").stat().st_size > 10_000
    return f"{len(kept['policies'])} policies in a portfolio, {size} models of a table"


def lines(dist: Path, checkout: Path, examples: Path, folder: Path) -> Iterator[Line]:
    """What is checked, in order."""
    for name in NAMES:
        yield name, partial(check_place, name, dist, checkout)
    yield "entry points", check_entry_points
    yield "palm --version", check_version
    yield "palm oracles", check_oracles_listed
    for entry in announced():
        if entry.group == "palm.metrics":
            yield f"metric {entry.name}", partial(check_metric_function, entry.name)
        if entry.group == "palm.rewards":
            yield f"reward {entry.name}", partial(check_reward_function, entry.name, folder)
        if entry.group == "palm.oracles":
            yield f"oracle {entry.name}", partial(check_oracle, entry.name, folder)
        if entry.group == "palm.exporters":
            yield f"exporter {entry.name}", partial(check_exporter, entry.name)
        if entry.group == "palm.analyses":
            yield f"analysis {entry.name}", partial(check_analysis, entry.name)
    yield "the demo", lambda: check_demo(examples)


def main(dist: Path, checkout: Path, examples: Path, helpers: Path) -> int:
    """Check everything, whatever fails on the way; print the table; the exit status."""
    quiet = {"TQDM_DISABLE": "1", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **quiet}
    sys.path.append(str(helpers))
    folder = Path.cwd()
    table = []
    for what, check in lines(dist, checkout.resolve(), examples, folder):
        begun = time.monotonic()
        try:
            state, told = "ok", check()
        except Exception as error:  # noqa: BLE001 - the other checks go on, and this one is told
            state, told = "WRONG", f"{type(error).__name__}: {error}"
        table.append((what, state, told, time.monotonic() - begun))
        print(f"{what}: {state}", flush=True)
    width = max(len(row[0]) for row in table)
    print()
    for what, state, told, seconds in table:
        print(f"{what:<{width}}  {state:<5}  {seconds:5.1f} s  {told}")
    wrong = sum(row[1] != "ok" for row in table)
    print(f"\n{len(table) - wrong} of {len(table)} hold" + (f", {wrong} do not" if wrong else ""))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(*(Path(argument).resolve() for argument in sys.argv[1:])))
