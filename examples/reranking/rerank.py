"""An oracle that trains nothing: best-of-n reranking of answers that are there already.

The policy for weights w answers each prompt with the candidate whose weighted reward is
highest. Among all ways to pick one candidate for each prompt that is the best, exactly.
"""

import hashlib
from pathlib import Path

import numpy as np

from palm_core import Policy
from palm_core.plugin import weight_id, write_artifact
from palm_eval import read_responses, score, write_responses
from palm_eval.rewards import length, regex

# Rewards in [0, 1] that count words: enough to see PALM at work, and no judge of answers.
# A reward model takes their place with palm_eval.rewards.load_reward("classifier", …).
WORDS = length(unit="words")
KIND = [
    regex(pattern=pattern, ignore_case=True)
    for pattern in (
        r"\b(sorry|oh no|poor|happens to|that sounds|congratulations)\b",
        r"\b(don't worry|you can|you've got this|well done|it will be fine|good luck)\b",
        r"!",
    )
]
STEPS = [regex(pattern=rf"^{number}\. ", multiline=True) for number in (1, 2, 3, 4)]


def brief(prompts, completions):
    """1 for no words at all, falling to 0 for 100."""
    return [max(0.0, 1 - count / 100) for count in WORDS(prompts, completions)]


def friendly(prompts, completions):
    """How much there is of sympathy, encouragement and an exclamation mark, as a share."""
    return np.mean([sign(prompts, completions) for sign in KIND], axis=0)


def practical(prompts, completions):
    """How many numbered steps there are, up to four, as a share."""
    return np.mean([step(prompts, completions) for step in STEPS], axis=0)


class Reranking:
    """Picks one of the candidates for each prompt.

    candidates: a file of responses, several for each prompt (palm_eval.write_responses).
    artifact_dir: where the answers of each policy are written; PALM gives it.
    """

    epsilon = delta = 0.0  # no pick of candidates is better than the one it makes

    def __init__(self, candidates: Path, artifact_dir: Path | None = None):
        self.artifact_dir = artifact_dir
        self.candidates = read_responses(candidates)
        scores = score(
            {"brief": brief, "friendly": friendly, "practical": practical},
            self.candidates.prompts,
            self.candidates.completions,
        )
        self.objectives = scores.objectives
        self.rewards = scores.per_completion  # for each prompt, (candidates, objectives)
        self.reward_bound = float(np.mean([r.sum(axis=1).max() for r in self.rewards]))

    @property
    def fingerprint(self):
        """Changes with any candidate and any reward."""
        told = repr((self.candidates, [rewards.tolist() for rewards in self.rewards]))
        return hashlib.sha256(told.encode()).hexdigest()

    def solve(self, weights):
        """Yield one policy per row of weights; the same picks have the same name."""
        for row in weights:
            picks = [int(np.argmax(rewards @ row)) for rewards in self.rewards]
            per_prompt = np.array([r[pick] for r, pick in zip(self.rewards, picks, strict=True)])
            yield Policy(
                id="picks-" + "".join(map(str, picks)),
                weights=row,
                rewards=per_prompt.mean(axis=0),
                prompt_rewards=per_prompt,
                artifact=self.write(weight_id(row), picks),
            )

    def write(self, name, picks):
        """Write the answers that were picked, whole or not at all; return their place."""
        if self.artifact_dir is None:  # nothing is being built
            return None
        prompts, several = self.candidates.prompts, self.candidates.completions
        with write_artifact(self.artifact_dir, name) as folder:
            write_responses(folder, prompts, [a[p] for a, p in zip(several, picks, strict=True)])
        return name
