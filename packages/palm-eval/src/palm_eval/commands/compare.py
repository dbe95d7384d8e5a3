"""``palm compare``: comparison of runs of different oracles."""

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
    """Compare runs of different oracles.

        palm compare runs/safety-mini runs/safety-soup

    For each run: the gaps of its policies to the best policies of all runs.

    Parameters
    ----------
    run
        Folder of a run made by palm build.
    other
        Another run, with the same objectives, rewards and prompts.
    more
        Further runs.
    normalize
        minmax over the policies of all runs, or none. By default as in the runs.
    samples
        Number of sampled weights.
    seed
        Seed of the sampled weights.
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
    for name, run in found.runs.items():
        rows.append(_row(f"{name}, portfolio", run.portfolio))
        rows.append(_row(f"{name}, all policies", run.found))
    output.table(headers, rows)
    output.say()
    output.tell(
        "ε and δ: exact gaps to the best policies of all runs, at every weight. The rewards and "
        "prompts of the runs must be the same; this is not checked."
    )


def _row(name: str, figures: Figures) -> list[str]:
    return [
        name,
        str(figures.size),
        str(figures.oracle_calls),
        percent_text(figures.epsilon, up=True),
        number_text(figures.delta, up=True),
        number_text(figures.perplexity),
        number_text(figures.expected_utility),
    ]
