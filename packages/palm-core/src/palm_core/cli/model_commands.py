"""Commands on models that exist: ``select``, ``route``, ``export``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from palm_core.cli import output
from palm_core.cli.commands import has_command
from palm_core.cli.parameters import (
    Columns,
    Count,
    File,
    Flag,
    Folder,
    Number,
    PortfolioPath,
    RunFolder,
    TablePath,
    TaskOption,
    WeightVectors,
    check_apart,
    check_curve,
    check_portfolio_file,
    objectives_example,
)
from palm_core.errors import InputError
from palm_core.validation import number_text, percent_text, weights_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_core.tables.select import Selection

#: The default of the largest size on a curve.
MOST = 8


def select(
    scores: TablePath,
    /,
    *,
    maximize: Columns = (),
    minimize: Columns = (),
    epsilon: Number | None = None,
    delta: Number | None = None,
    normalize: Literal["minmax", "none"] = "minmax",
    solver: Literal["cbc", "highs"] | None = None,
    time_limit: Number = 60,
    curve: Flag = False,
    most: Count | None = None,
    save: File | None = None,
    json: Flag = False,
) -> None:
    """Select the fewest models that are near the best at every weight.

        palm select models.csv --maximize helpful --minimize cost --epsilon 0.02

    At every weight vector of the objectives, the best selected model is within the
    tolerance of the best of all models. The gaps are exact.

    Parameters
    ----------
    scores
        Table of models and their scores: .csv, .tsv, .json, .parquet, .npy or .npz.
    maximize
        Columns where higher is better.
    minimize
        Columns where lower is better.
    epsilon
        ε in [0, 1]: the share of the best value that may be lost, at every weight. By
        default 0.01.
    delta
        δ: the amount that may be lost in addition, in (normalised) units of score. By
        default 0.
    normalize
        Scale each column to 0-1 over the table, or keep raw scores.
    solver
        Integer programming solver. By default cbc, or highs if cbc fails.
    time_limit
        Time limit of the search in seconds; with --curve, of the whole curve.
    curve
        Show the least gap of every size instead.
    most
        The largest size of --curve. By default 8.
    save
        Write the selection to a portfolio file, for palm route.
    json
        Print one JSON document instead.
    """
    from palm_core.cover.minimal import size_gap_curve
    from palm_core.model.normalization import Normalization
    from palm_core.tables.read import read_table
    from palm_core.tables.select import select_models

    check_curve(curve, most, {"epsilon": epsilon, "delta": delta, "save": save})
    check_portfolio_file(save)
    source = read_table(scores)
    for option, names in (("maximize", maximize), ("minimize", minimize)):
        check_apart(option, names, source.columns)
    try:
        candidates = source.policies(maximize=maximize, minimize=minimize)
    except InputError as error:
        example = objectives_example(source, scores, maximize, minimize)
        raise InputError(f"{error}{example}") from error
    if curve:
        largest = MOST if most is None else most
        scaled = Normalization.fit(candidates, normalize, over=scores.name).apply(candidates)
        output.show_curve(
            lambda: size_gap_curve(scaled, most=largest, solver=solver, time_limit=time_limit),
            "models",
            json=json,
        )
        return
    with output.waiting("searching for the fewest models", time_limit):
        found = select_models(
            candidates,
            epsilon=0.01 if epsilon is None else epsilon,
            delta=0.0 if delta is None else delta,
            normalize=normalize,
            solver=solver,
            time_limit=time_limit,
            over=f"the {len(candidates)} models of {scores.name}",
        )
    if save is not None:
        save = found.portfolio().save(save)
    if json:
        output.print_json(_select_document(found))
        return
    _show_selection(found, minimize)
    if save is not None:
        example = output.example_weights(found.objectives)
        output.note(f"Saved to {save}: palm route {save} --weights {example}")
        if has_command("report"):
            output.note(f"An interactive page: palm report {save} --models {scores}")


def route(
    source: PortfolioPath,
    /,
    *,
    weights: WeightVectors = (),
    table: File | None = None,
    json: Flag = False,
) -> None:
    """Print the best policy of a portfolio for each weight vector.

        palm route runs/first --weights helpful=0.7,brief=0.3

    Parameters
    ----------
    source
        Folder of a run, or a portfolio file.
    weights
        Weight vectors, each as name=value,name=value. The values must add to 1;
        omitted objectives have weight 0.
    table
        Table with one weight vector per row and one column per objective.
    json
        Print one JSON document instead.
    """
    import numpy as np

    from palm_core.cli.parameters import read_weight_vectors
    from palm_core.model.files import is_folder
    from palm_core.model.portfolio import Portfolio
    from palm_core.run.artifacts import reached
    from palm_core.tables.read import read_table
    from palm_core.validation import check_weights

    portfolio = Portfolio.load(source)
    run = source if is_folder(source) else source.parent
    objectives = portfolio.objectives
    rows = [np.array(read_weight_vectors(weights, objectives)).reshape(-1, len(objectives))]
    if table is not None:
        read = read_table(table)
        columns = np.column_stack([read.numbers(name) for name in objectives])
        rows.append(check_weights(columns, len(objectives), name=str(table)))
    if not sum(map(len, rows)):
        example = output.example_weights(objectives)
        raise InputError(f"--weights or --table is missing; for example --weights {example}")
    asked = check_weights(np.concatenate(rows), len(objectives))
    chosen = portfolio.route_indices(asked)
    values = np.einsum("kd,kd->k", asked, portfolio.policy_set.vertex_values[chosen])
    if json:
        output.print_json(
            {
                "objectives": list(objectives),
                "routes": [
                    {
                        "weights": row.tolist(),
                        "policy": portfolio.policies[index].id,
                        "value": value,
                        "artifact": reached(run, portfolio.policies[index].artifact),
                    }
                    for row, index, value in zip(asked, chosen, values, strict=True)
                ],
            }
        )
        return
    for row, index in zip(asked, chosen, strict=True):
        policy = portfolio.policies[index]
        where = f"   {reached(run, policy.artifact)}" if policy.artifact else ""
        if len(asked) == 1:
            output.say(f"{policy.id}{where}")
        else:
            output.say(f"{', '.join(f'{value:g}' for value in row)}   {policy.id}{where}")


def _select_document(found: Selection) -> dict[str, Any]:
    gaps = found.gaps
    return {
        "portfolio": [model.name for model in found.models],
        "epsilon": gaps.epsilon,
        "delta": gaps.delta,
        "epsilon_weights": gaps.epsilon_weights,
        "delta_weights": gaps.delta_weights,
        "status": found.status,
        "lower_bound": found.lower_bound,
        "tolerance": {"epsilon": found.cover.epsilon, "delta": found.cover.delta},
        "candidates": len(found.candidates),
        "objectives": list(found.objectives),
        "normalization": found.normalization.method,
        "models": [
            {
                "name": model.name,
                "scores": dict(zip(found.objectives, model.scores.tolist(), strict=True)),
                "serves": None if model.interval is None else list(model.interval),
                "share": model.share,
                "gap_without": model.gap_without,
            }
            for model in found.models
        ],
        "gaps_not_computed": found.not_computed,
    }


def _show_selection(found: Selection, minimized: Sequence[str]) -> None:
    size, d = len(found.models), len(found.objectives)
    epsilon, delta = found.cover.tolerance
    parts = [percent_text(epsilon)] if epsilon > 0 or delta == 0 else []
    parts += [f"{delta:g}"] if delta > 0 else []
    gaps, all_models = found.gaps, len(found.candidates)
    output.tell(
        f"{size} of {all_models} models {'is' if size == 1 else 'are'} enough: for every "
        f"weight vector of the {d} objectives, "
        f"{'it' if size == 1 else f'the best of these {size}'}\n"
        f"is within {' plus '.join(parts)} of the best of all {all_models} "
        f"(exactly {_gap_text(found)})."
    )
    if found.status == "optimal":
        if size == 2:
            output.say("No single model can do that (proven).")
        elif size > 2:
            output.say(f"No {size - 1} models can do that (proven).")
    else:
        output.tell(
            f"At least {found.lower_bound} are needed; whether fewer than {size} are enough was "
            "not decided within the time limit (--time-limit)."
        )
    output.say()
    serves = f"serves weight on {found.objectives[0]}" if d == 2 else "serves share of weights"
    headers = ["model", serves, "without it the gap is", *found.objectives]
    rows = []
    for model in found.models:
        if model.interval is None:
            place = percent_text(model.share, 1)
        else:
            place = f"{model.interval[0]:.2f} ─ {model.interval[1]:.2f}"
        scores = [
            -value if name in minimized else value
            for name, value in zip(found.objectives, model.scores.tolist(), strict=True)
        ]
        rows.append(
            [model.name, place, percent_text(model.gap_without, 1), *map(number_text, scores)]
        )
    output.table(headers, rows)
    output.say()
    if found.not_computed:
        output.tell(
            f"—: the gap without {found.not_computed} of the models was not computed within the "
            "time limit (--time-limit)."
        )
    elif len(rows) > 1 and any(model.gap_without is None for model in found.models):
        output.tell(
            "—: without it there is a loss where the best value is not positive: no share of it."
        )
    if found.normalization.method == "minmax":
        output.tell("Scores were scaled to 0–1 per column (--normalize none keeps them raw).")
    if gaps.note:
        output.tell(gaps.note)


def _gap_text(found: Selection) -> str:
    gaps, names = found.gaps, found.objectives
    if found.cover.tolerance[1] > 0 or not math.isfinite(gaps.epsilon):
        where = weights_text(gaps.delta_weights, names)
        amount = f"{number_text(gaps.delta, up=True)} in units of score, at {where}"
        if not math.isfinite(gaps.epsilon):
            return amount
        return f"{percent_text(gaps.epsilon, up=True)} or {amount}"
    if gaps.epsilon <= 0 or gaps.epsilon_weights is None:
        return "no loss at all"
    where = weights_text(gaps.epsilon_weights, names)
    return f"{percent_text(gaps.epsilon, up=True)}, at {where}"


def export(
    run: RunFolder,
    /,
    *,
    to: Annotated[str, Parameter(metavar="NAME")],
    out: Folder | None = None,
    task: TaskOption | None = None,
    base: Annotated[str | None, Parameter(metavar="MODEL")] = None,
    json: Flag = False,
) -> None:
    """Copy the models of a portfolio into a folder to serve or publish.

        palm export runs/first --to vllm --out served

    Every model is verified against the hash that the run recorded, so that the exported
    model is the measured one.

    Parameters
    ----------
    run
        Folder of a run made by palm build, or its portfolio.json.
    to
        The target: vllm (adapters or models, the command that serves them, a routing table
        from weights to model names), hf (one folder with a model card per model), or a
        target that another package provides.
    out
        Folder to write; may be an earlier export. By default export/NAME in the run's
        folder.
    task
        Task file of the run; required for adapters of a base model in a folder beside it.
        That model is then verified too.
    base
        Base model of the adapters, if it was moved: a folder, or "name@revision" on the
        Hugging Face hub. It is not verified.
    json
        Print one JSON document instead.
    """
    from palm_core.oracles.registry import load_exporter

    options = {"out": out, "task": task, "base": base}
    options = {name: value for name, value in options.items() if value is not None}
    exporter = load_exporter(to, options)
    with output.waiting("verifying and copying", None):
        made = exporter(run, **options)
    if json:
        output.print_json({name: value for name, value in made.items() if name != "next"})
        return
    output.say(made["export"])
    rows = [
        [
            model["name"],
            percent_text(model["share"], 1)
            if model["serves"] is None
            else f"{model['serves']['least']:.2f} ─ {model['serves']['most']:.2f}",
        ]
        for model in made["models"]
    ]
    of_first = bool(rows) and made["models"][0]["serves"] is not None
    what = f"serves weight on {made['objectives'][0]}" if of_first else "serves share of weights"
    output.table(["model", what], rows)
    for line in made["missing"]:
        output.note(line)
    if made.get("next"):
        output.note(made["next"])
