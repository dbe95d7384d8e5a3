"""``palm evaluate``: a run beside the baselines of the literature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from palm_core.cli import output
from palm_eval.commands.common import Flag, oracle_of

Names = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]

if TYPE_CHECKING:
    from palm_eval.evaluation import Evaluation
    from palm_eval.intervals import Interval
    from palm_eval.run_diversity import RunDiversity


def evaluate(
    run: Annotated[Path, Parameter(name="RUN")],
    /,
    *,
    task: Path | None = None,
    normalize: Literal["minmax", "none"] | None = None,
    samples: int = 1000,
    seed: int = 0,
    metric: Names = (),
    json: Flag = False,
) -> None:
    """Measure a run's portfolio as the literature does, beside baselines of equal size.

    Example: palm evaluate runs/first --task task.toml

    Parameters
    ----------
    run
        The folder of a run that palm build made.
    task
        The task file of the run: its oracle is asked for the baselines, at weights that
        the run has no policy for. Without it those baselines are left out.
    normalize
        minmax over all policies, as in the paper, or none; by default as the run.
    samples
        How many weights are sampled.
    seed
        Of the samples, the baselines and the bootstrap.
    metric
        Measure this too: the name of an installed metric, or module:function for one of
        your own. May be given several times.
    json
        Print one JSON document instead.
    """
    from palm_core.runs import Run
    from palm_eval.evaluation import evaluate_run
    from palm_eval.metric_plugins import load_metric
    from palm_eval.run_diversity import portfolio_diversity

    metrics = {name: load_metric(name) for name in metric}
    made = Run.open(run)
    oracle = None
    if task is not None:
        oracle = oracle_of(made, run, task)
    with output.waiting("measuring", None):
        found = evaluate_run(
            made, oracle=oracle, normalize=normalize, samples=samples, seed=seed, metrics=metrics
        )
        policies = {answer.policy.id: answer.policy for answer in reversed(made.answers)}
        chosen = [policies[name] for name in found.portfolio]
        diversity, no_diversity = portfolio_diversity(run, chosen, seed=seed)
    if json:
        plain = None if diversity is None else diversity.document()
        more = {"diversity": plain, "no_diversity": no_diversity or None}
        output.print_json(found.document() | more)
        return
    _show(found)
    output.say()
    if diversity is None:
        output.say(f"No diversity of answers: {no_diversity}")
    else:
        _show_diversity(diversity)


def _show(found: Evaluation) -> None:
    from palm_eval.run_baselines import baseline_label
    from palm_eval.showing import figure_rows

    figures = found.figures
    output.say(
        f"{figures.size} policies, {figures.oracle_calls} oracle calls, measured against "
        f"{found.candidates} policies ({found.normalization_text})."
    )
    output.say()
    headers, rows = figure_rows(found)
    output.table(headers, rows)
    output.say()
    if found.intervals is not None:
        _show_intervals(found, found.intervals)
    if found.intervals is None:
        output.say(f"No intervals: {found.no_intervals}")
    for name, why in found.not_asked.items():
        output.say(f"Not measured: {baseline_label(name)}: {why}")


def _show_intervals(found: Evaluation, own: dict[str, Interval]) -> None:
    from palm_eval.run_baselines import baseline_label

    one = own["epsilon"]
    how = f"{one.level:.0%} intervals from {one.n_prompts} prompts, {one.method}"
    output.say(f"With other prompts ({how}):")
    columns = {
        "epsilon": ("ε", output.percent),
        "delta": ("δ", output.number),
        "perplexity": ("perplexity", output.number),
        "utility": (f"utility of {found.samples}", output.number),
    }
    named = {"portfolio": own} | {
        baseline_label(name): other for name, other in found.baseline_intervals.items()
    }
    rows = [
        [label]
        + [
            f"{written(float(of[name].lower))} to {written(float(of[name].upper))}"
            for name, (_, written) in columns.items()
        ]
        for label, of in named.items()
    ]
    output.table(["", *(title for title, _ in columns.values())], rows)


def _show_diversity(found: RunDiversity) -> None:
    each = "one answer" if found.completions == 1 else f"{found.completions} answers"
    output.say(
        f"How different answers to the same prompt are, {each} from each policy "
        f"({found.prompts} prompts, means with 95% intervals):"
    )
    named = {f"{name} alone": own for name, own in found.alone.items()}
    if found.together:
        named = {f"all {len(found.alone)} together": found.together} | named
    measures = {"distinct_1": "distinct-1", "distinct_2": "distinct-2", "self_bleu": "self-BLEU"}
    rows = [[name, *(_within(own.get(key)) for key in measures)] for name, own in named.items()]
    output.table(["", *measures.values()], rows)
    for name, why in found.missing.items():
        output.say(f"No answers of {name}: {why}")


def _within(found: Interval | None) -> str:
    if found is None:
        return "—"
    value, lower, upper = (output.number(float(x)) for x in (found.value, found.lower, found.upper))
    return f"{value} ({lower} to {upper})"
