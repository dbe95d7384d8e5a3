"""What is rewarded besides brevity: how much of the solution an answer shows."""

from __future__ import annotations

import re

#: What the first step, the second and the sentence at the end are worth.
WORTH = (0.5, 0.3, 0.2)
_END = re.compile(r"#### \d+\s*$")


def helpfulness(prompts, completions, solution):
    """r(x, y) in [0, 1]: the worth of the solution's sentences in y, if y ends in "#### n".

    Without the condition a model is rewarded for rambling on until it is cut off.
    """
    return [
        sum(
            worth
            for worth, sentence in zip(WORTH, true.rstrip(".").split(". "), strict=True)
            if f"{sentence}." in said
        )
        if _END.search(said)
        else 0.0
        for _, said, true in zip(prompts, completions, solution, strict=True)
    ]
