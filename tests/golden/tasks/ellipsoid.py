"""An oracle with the same answers on every machine: square roots and no exponentials.

Its policies are the points r of an ellipsoid, Σ (r_i / s_i)² = 1; that no two axes s_i are of
one length keeps ties out of the results.
"""

import os
import signal
from pathlib import Path

import numpy as np

from palm_core import Policy
from palm_eval import write_responses

PROMPTS = ["first?", "second?", "third?", "fourth?"]
OFFSETS = np.array([0.0625, -0.0625, 0.03125, -0.03125])
COST = 0.015625
AXES = np.array([1.0, 0.875, 0.625])


class Ellipsoid:
    """Exact; GOLDEN_FAIL=1 fails at corners, GOLDEN_KILL=n kills the process at call n."""

    epsilon = delta = 0.0
    regularizer_bound = 2 * COST

    def __init__(self, objectives=("kind", "brief"), answers=False, artifact_dir=None):
        self.objectives = tuple(objectives)
        self.reward_bound = float(len(self.objectives))
        self.folder = Path(artifact_dir or "artifacts") if answers else None
        self.calls = 0

    def solve(self, weights):
        """Yield one policy per row of weights."""
        for w in weights:
            self.calls += 1
            if self.calls == int(os.environ.get("GOLDEN_KILL", "0")):
                os.kill(os.getpid(), signal.SIGKILL)
            if w.max() == 1 and os.environ.get("GOLDEN_FAIL"):
                raise RuntimeError("out-of-memory")
            yield self._policy(w)

    def _policy(self, w):
        name = "p" + "-".join(f"{x:.6f}" for x in w)
        scaled = AXES[: len(w)] * w
        rewards = AXES[: len(w)] * scaled / np.sqrt((scaled * scaled).sum())
        if self.folder is not None:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            best = self.objectives[int(w.argmax())]
            write_responses(self.folder / name, PROMPTS, [f"{p}-{best}" for p in PROMPTS])
        return Policy(
            id=name,
            weights=w,
            rewards=rewards,
            regularizer=COST,
            prompt_rewards=rewards + OFFSETS[:, None],
            prompt_regularizer=np.full(len(PROMPTS), COST),
            artifact=None if self.folder is None else name,
        )
