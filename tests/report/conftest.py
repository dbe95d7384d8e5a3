"""A browser for all tests, runs to report on, and a page that notes what goes wrong in it."""

import os
import shutil

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from palm_core import Policy, build_portfolio, load_oracle
from palm_core.plugin import write_artifact
from palm_eval import gather_report, write_report, write_responses

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
QUIET = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Answering:
    """Four policies between two objectives, each with answers to three prompts."""

    def __init__(self, folder, objectives=("kind", "brief"), names=("a", "b", "c", "d")):
        self.objectives, self.folder, self.names = objectives, folder, names
        self.rewards = np.array([[0.9, 0.2], [0.7, 0.7], [0.2, 0.9], [0.3, 0.3]])
        self.noise = np.array([[-0.1, 0.1, 0.0], [0.05, 0.05, -0.1]]).T

    def solve(self, weights):
        for w in weights:
            i = int(np.argmax(self.rewards @ w))
            prompts = ["Say hello.", f"What is {EVIL}?", [{"role": "user", "content": "Bye?"}]]
            answers = [f"Hello from {i}.", f"{EVIL} says {i}", ["Bye.", f"Bye from {i}."]]
            if i < 2:
                answers[0] = "Hello."
            name = f"policy-{i}"
            with write_artifact(self.folder, name) as made:
                write_responses(made, prompts, answers)
            yield Policy(
                id=self.names[i],
                weights=w,
                rewards=self.rewards[i],
                reward_errors=[0.01, 0.02],
                prompt_rewards=self.rewards[i] + self.noise,
                artifact=name,
            )


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        found = os.environ.get("PALM_CHROMIUM") or shutil.which("chromium") or None
        sandbox = hasattr(os, "geteuid") and os.geteuid() != 0  # Chromium has none for root
        browser = playwright.chromium.launch(
            executable_path=found, args=QUIET, chromium_sandbox=sandbox
        )
        yield browser
        browser.close()


@pytest.fixture
def show(browser):
    """Open a file: a page where any message, error or request makes the test fail."""
    wrong, contexts = [], []

    def show(file, **options):
        contexts.append(browser.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:"))
                or wrong.append(f"request: {request.url}")
            ),
        )
        page.goto(file.resolve().as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


def reported(run, **options):
    return write_report(gather_report(run, **options), run / "report.html")


@pytest.fixture(scope="session")
def answering(tmp_path_factory):
    """d = 2, with answers; names that would be markup."""
    run = tmp_path_factory.mktemp("answering") / "run"
    oracle = Answering(run / "artifacts", ("kind <b>", "brief"), ("a", EVIL, "c & d", "d"))
    build_portfolio(oracle, mu=0.5, alpha=0.1, prune_mu=0.01, run_dir=run)
    return reported(run)


@pytest.fixture(scope="session")
def triangle(tmp_path_factory):
    """d = 3, without answers."""
    run = tmp_path_factory.mktemp("triangle") / "run"
    oracle = load_oracle("tabular", objectives=["helpful", "brief", "safe"], beta=0.05)
    build_portfolio(oracle, mu=0.5, alpha=0.1, prune_mu=0.04, run_dir=run)
    return reported(run, most=4)


@pytest.fixture(scope="session")
def four(tmp_path_factory):
    """d = 4."""
    run = tmp_path_factory.mktemp("four") / "run"
    oracle = load_oracle("tabular", objectives=["helpful", "brief", "safe", "funny"], beta=0.05)
    build_portfolio(oracle, mu=1.0, alpha=0.3, prune_mu=0.1, run_dir=run)
    return reported(run, most=4)
