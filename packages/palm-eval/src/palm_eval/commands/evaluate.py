"""``palm evaluate``: metrics of a run and of baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from palm_core.plugin import (
    Count,
    Flag,
    Names,
    RunFolder,
    TaskOption,
    bound_text,
    number_text,
    output,
    percent_text,
)
from palm_eval.commands.common import BASELINES, oracle_of

if TYPE_CHECKING:
    from palm_core import Oracle, Run
    from palm_eval.analysis.evaluation import Evaluation
    from palm_eval.analysis.intervals import RunCertificate
    from palm_eval.analysis.remeasurement import Remeasurer
    from palm_eval.diversity import RunDiversity
    from palm_eval.intervals import Interval


def evaluate(
    run: RunFolder,
    /,
    *,
    task: TaskOption | None = None,
    prompts: Count | None = None,
    normalize: Literal["minmax", "none"] | None = None,
    samples: Count = 1000,
    seed: Count = 0,
    metric: Names = (),
    json: Flag = False,
) -> None:
    """Compute the metrics of a run and of baselines.

        palm evaluate runs/first --task task.toml

    Gaps (exact and sampled), usage and utility with confidence intervals, for the run's
    portfolio and for portfolios of the same size by other methods.

    Parameters
    ----------
    run
        Folder of a run made by palm build.
    task
        Task file of the run. Its oracle is called for baselines at weights that the run
        has no answer for; without it these baselines are omitted.
    prompts
        Measure every policy again on this number of evaluation prompts, without training;
        requires --task. The results are saved in the run's folder.
    normalize
        minmax over all policies, as in the paper, or none. By default as in the run.
    samples
        Number of sampled weights.
    seed
        Seed of the sampled weights, the baselines and the bootstrap.
    metric
        An additional metric: the name of an installed one, or module:function. May be
        repeated.
    json
        Print one JSON document instead.
    """
    from palm_core import InputError, open_run
    from palm_eval.analysis.evaluation import evaluate_run
    from palm_eval.analysis.intervals import certificate_of
    from palm_eval.diversity import portfolio_diversity
    from palm_eval.metric_plugins import load_metric

    metrics = {name: load_metric(name) for name in metric}
    made = open_run(run)
    if prompts is not None and task is None:
        raise InputError(f"--prompts {prompts}: requires --task, whose oracle measures")
    oracle, chosen, again = None, None, None
    if task is not None:
        oracle = oracle_of(made, run, task)
    if prompts is not None and oracle is not None:
        chosen = made.portfolio
        made, oracle, again = _measured(made, oracle, run, prompts)
    with output.waiting("measuring", None):
        found = evaluate_run(
            made,
            oracle=oracle,
            chosen=chosen,
            normalize=normalize,
            samples=samples,
            seed=seed,
            metrics=metrics,
        )
        certificate, uncertified = certificate_of(made, found.portfolio, seed=seed)
        policies = {answer.policy.id: answer.policy for answer in reversed(made.answers)}
        named = [policies[name] for name in found.portfolio]
        diversity, no_diversity = portfolio_diversity(run, named, seed=seed)
    if json:
        more = {
            "certificate": None if certificate is None else certificate.document(),
            "no_certificate": uncertified or None,
            "diversity": None if diversity is None else diversity.document(),
            "no_diversity": no_diversity or None,
        }
        if again is not None:
            more["measured"] = again.document()
        output.print_json(found.document() | more)
        return
    if again is not None:
        output.tell(again.sentence)
    _show(found)
    output.say()
    if certificate is None:
        output.tell(f"No certificate against all policies: {uncertified}.")
    else:
        _show_certificate(certificate)
    output.say()
    if diversity is None:
        output.tell(f"No diversity of answers: {no_diversity}")
    else:
        _show_diversity(diversity)


def _measured(
    made: Run, oracle: Oracle, folder: Path, prompts: int
) -> tuple[Run, Oracle, Remeasurer]:
    from palm_core.plugin import ARTIFACTS
    from palm_eval.analysis.remeasurement import MeasuredOracle, Remeasurer, measured_run

    asked = made.task.get("oracle", {})
    again = Remeasurer(
        oracle,
        folder,
        made.objectives,
        name=str(asked.get("name", type(oracle).__name__)),
        fingerprint=asked.get("fingerprint"),
        prompts=prompts,
        notify=output.note,
    )
    baselines = folder.absolute() / BASELINES / ARTIFACTS
    return measured_run(made, folder, again), MeasuredOracle(oracle, baselines, again), again


def _show(found: Evaluation) -> None:
    from palm_eval.analysis.baselines import baseline_label
    from palm_eval.analysis.evaluation import figure_rows

    figures = found.figures
    output.tell(
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
        output.tell(f"No intervals: {found.no_intervals}")
    for name, why in found.not_asked.items():
        output.tell(f"Not measured: {baseline_label(name)}: {why}")


def _show_intervals(found: Evaluation, own: dict[str, Interval]) -> None:
    from palm_eval.analysis.baselines import baseline_label

    one = own["epsilon"]
    how = f"{one.level:.0%} intervals from {one.n_prompts} prompts, {one.method}"
    output.tell(f"With other prompts ({how}):")
    columns = {
        "epsilon": ("ε", percent_text),
        "delta": ("δ", number_text),
        "perplexity": ("perplexity", number_text),
        "utility": (f"utility of {found.samples}", number_text),
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


def _show_certificate(one: RunCertificate) -> None:
    from palm_eval.analysis.intervals import LEVEL

    found = one.found
    output.say("Against every policy there is, at every weight:")
    output.tell(str(found), indent=2)
    if one.no_limits:
        output.tell(f"without limits for the measurement error: {one.no_limits}", indent=2)
        return
    share = (
        "no ε is certain"
        if one.epsilon_upper is None
        else f"ε at most {bound_text(one.epsilon_upper, percent=True)} %"
    )
    output.tell(
        f"with the measurement error on {one.prompts} prompts: {share}, δ at most "
        f"{bound_text(one.delta_upper or 0.0)} ({LEVEL:.0%} confidence, {one.resamples} resamples)",
        indent=2,
    )


def _show_diversity(found: RunDiversity) -> None:
    each = "one answer" if found.completions == 1 else f"{found.completions} answers"
    output.tell(
        f"Diversity of the answers to the same prompt, {each} from each policy "
        f"({found.prompts} prompts, means with 95% intervals):"
    )
    named = {f"{name} alone": own for name, own in found.alone.items()}
    if found.together:
        named = {f"all {len(found.alone)} together": found.together} | named
    measures = {"distinct_1": "distinct-1", "distinct_2": "distinct-2", "self_bleu": "self-BLEU"}
    rows = [[name, *(_within(own.get(key)) for key in measures)] for name, own in named.items()]
    output.table(["", *measures.values()], rows)
    for name, why in found.missing.items():
        output.tell(f"No answers of {name}: {why}")


def _within(found: Interval | None) -> str:
    if found is None:
        return "—"
    value, lower, upper = (number_text(float(x)) for x in (found.value, found.lower, found.upper))
    return f"{value} ({lower} to {upper})"
