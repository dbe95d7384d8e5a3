"""``palm compare``: runs of different oracles side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from palm_core.plugin import Count, Flag, RunFolder, number_text, output, percent_text
from palm_eval.commands.common import opened_runs

if TYPE_CHECKING:
    from palm_eval.analysis.evaluation import Figures
    from palm_eval.comparison import Rivals


def compare(
    run: RunFolder,
    other: RunFolder,
    /,
    *more: RunFolder,
    normalize: Literal["minmax", "none"] | None = None,
    samples: Count = 1000,
    seed: Count = 0,
    json: Flag = False,
) -> None:
    """Set runs of different oracles side by side.

        palm compare runs/safety-mini runs/safety-soup

    For every weight vector, what each run's policies lose to the best of all of them.

    Parameters
    ----------
    run
        The folder of a run that palm build made.
    other
        Another, for the same objectives, rewards and prompts.
    more
        And more of them.
    normalize
        minmax over the policies of all runs, or none; by default as the runs.
    samples
        How many weights are sampled.
    seed
        Of the samples.
    json
        Print one JSON document instead.
    """
    from palm_eval.comparison import compare_oracles

    runs = opened_runs([run, other, *more])
    with output.waiting("measuring", None):
        found = compare_oracles(runs, normalize=normalize, samples=samples, seed=seed)
    if json:
        output.print_json(found.document())
    else:
        _show(found)


def _show(found: Rivals) -> None:
    space = "in the oracles' units" if found.normalization == "none" else found.normalization
    output.tell(f"Measured against the {found.candidates} policies of all runs together ({space}).")
    output.say()
    headers = ["", "policies", "calls", "ε", "δ", "perplexity", "utility"]
    rows = []
    for name, one in found.runs.items():
        rows.append(_row(f"{name}, portfolio", one.portfolio))
        rows.append(_row(f"{name}, all found", one.found))
    output.table(headers, rows)
    output.say()
    output.tell(
        "ε and δ: the most that is lost, at any weights, to the best policy of any run, exactly. "
        "The runs' rewards and prompts must be the same; that is for you to know."
    )


def _row(name: str, one: Figures) -> list[str]:
    return [
        name,
        str(one.size),
        str(one.oracle_calls),
        percent_text(one.epsilon, up=True),
        number_text(one.delta, up=True),
        number_text(one.perplexity),
        number_text(one.expected_utility),
    ]
