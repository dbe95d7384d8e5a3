"""Commands on runs: ``oracles``, ``plan``, ``build`` and ``prune``."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from palm_core.cli import output, showing
from palm_core.cli.checks import check_curve, check_portfolio_file
from palm_core.cli.model_commands import MOST
from palm_core.cli.parameters import Count, File, Flag, Folder, Number, RunFolder, TaskFile
from palm_core.cli.plugin_commands import has_command
from palm_core.cli.watching import Watch, going_on


def oracles(*, json: Flag = False) -> None:
    """List the oracles that a task can name.

        palm oracles

    Those that are not installed are listed too, with what to install.

    Parameters
    ----------
    json
        Print one JSON document instead.
    """
    from palm_core.plugins import describe_oracles

    found = describe_oracles()
    if json:
        output.print_json(
            {
                "oracles": [
                    {
                        "name": info.name,
                        "installed": info.installed,
                        "package": info.distribution,
                        "version": info.version,
                        "factory": info.value,
                        "hint": info.hint,
                    }
                    for info in found
                ]
            }
        )
        return
    rows = [
        [
            info.name,
            info.distribution if not info.installed else f"{info.distribution} {info.version}",
            "installed" if info.installed else info.hint,
        ]
        for info in found
    ]
    output.table(["oracle", "package", ""], rows, left=3)
    output.say()
    output.say('An oracle of your own needs no package: [oracle] name = "module:factory"')


def plan(task_file: TaskFile, /, *, json: Flag = False) -> None:
    """Say what a task costs and guarantees, before anything is spent.

        palm plan task.toml

    Parameters
    ----------
    task_file
        The task, a .toml file.
    json
        Print one JSON document instead.
    """
    from palm_core.grid import spaced
    from palm_core.planning import make_plan
    from palm_core.plugins import load_task_oracle
    from palm_core.task import load_task

    task = load_task(task_file)
    made = make_plan(task, load_task_oracle(task))
    if json:
        output.print_json(made.document())
        return
    output.say(f"{task_file.stem} · {showing.objectives(made.objectives)} · oracle {task.oracle}")
    asked = task.settings
    count = "no limit" if made.calls is None else spaced(made.calls)
    if asked.target_epsilon is None:
        how = f"μ = {asked.mu:.4g}, α = {asked.alpha:.4g}"
        rows = [["oracle calls", count], ["grid", how]]
    else:
        rows = [
            ["oracle calls", count if made.calls is None else f"at most {count}"],
            ["adaptive", f"to ε = {asked.target_epsilon:.4g}"],
        ]
    share = "what the calls leave" if asked.prune_mu is None else f"{asked.prune_mu:.4g}"
    rows.append(["pruning", f"μ' = {share}, α' = {asked.prune_alpha:.4g}, {asked.method}"])
    rows += [[name, text] for name, text in made.estimate.items()]
    output.table(["", ""], rows, left=2)
    output.say()
    for line in made.lines():
        output.tell(line)


def build(
    task_file: TaskFile,
    /,
    *,
    out: Folder,
    target: Number | None = None,
    max_calls: Count | None = None,
    workers: Count | None = None,
    executor: Literal["local", "ray", "here"] | None = None,
    address: Annotated[str | None, Parameter(metavar="HOST:PORT")] = None,
    extend: Flag = False,
    json: Flag = False,
) -> None:
    """Ask the oracle for policies and keep the few that are enough.

        palm build task.toml --out runs/first --workers 2

    It is asked at the weights of the task's grid, or where the certified gap is
    largest ([adaptive] in the task, or --target). Every answer is kept as it
    arrives: run the same command again and it goes on where it stood.

    Without [prune] mu in the task, the fewest policies are kept that are within 5 % of
    the best found; with its method greedy or exact, within the grid's μ, as in the paper.

    Parameters
    ----------
    task_file
        The task, a .toml file.
    out
        The run's folder, made where there is none.
    target
        Ask adaptively, until the portfolio is certified to be within this share
        of the best there is at every weight; in place of the task's grid.
    max_calls
        Stop asking after so many calls; the certificate is then wider.
    workers
        How many oracle calls at once, each in a process of its own.
    executor
        Who makes the calls: worker processes of this machine (local), a Ray
        cluster (ray), or this process (here; nothing outlives a crash of the oracle).
    address
        Of the Ray cluster; without it one that is here already, or a local one.
    extend
        Go on with a run whose grid, target or pruning was another: its answers
        stay valid.
    json
        Print one JSON document instead.
    """
    from palm_core.artifacts import FOLDER
    from palm_core.build import build_portfolio
    from palm_core.plugins import TaskOracle
    from palm_core.task import load_task

    task = load_task(task_file, target_epsilon=target, max_calls=max_calls)
    given: dict[str, Any] = {"workers": workers, "executor": executor, "address": address}
    execution = replace(task.execution, **{k: v for k, v in given.items() if v is not None})
    source = TaskOracle(task, out.absolute() / FOLDER)
    oracle = source()
    options = {"target": target, "max-calls": max_calls, **given}
    again = ["palm", "build", str(task_file), "--out", str(out)]
    again += [f"--{name}={value}" for name, value in options.items() if value is not None]
    watch = Watch(task_file.stem)
    with going_on(watch, again + ["--extend"] * extend):
        portfolio = build_portfolio(
            oracle,
            **asdict(task.settings),
            run_dir=out,
            extend=extend,
            execution=execution,
            task=task.resolved(),
            source=source,
            progress=watch,
        )
    if json:
        output.print_json(showing.document(portfolio))
        return
    output.say(
        f"{task_file.stem} · {showing.objectives(portfolio.objectives)} · oracle {task.oracle}"
    )
    showing.show(portfolio)
    if portfolio.missing:
        output.say(f"To try them again: run the same command. Why they failed: {out}/logs")
    output.say()
    output.say(f"Saved in {out}. Other sizes, no oracle call: palm prune {out} --curve")
    example = output.example_weights(portfolio.objectives)
    output.say(f"Which policy for whom: palm route {out} --weights {example}")
    if has_command("report"):
        output.say(f"A page to explore it: palm report {out}")


def prune(
    run: RunFolder,
    /,
    *,
    mu: Number | None = None,
    alpha: Number | None = None,
    method: Literal["minimal", "greedy", "exact"] | None = None,
    solver: Literal["cbc", "highs"] | None = None,
    time_limit: Number | None = None,
    curve: Flag = False,
    most: Count | None = None,
    save: File | None = None,
    json: Flag = False,
) -> None:
    """Choose another size out of a run, without an oracle call.

        palm prune runs/first --mu 0.02
        palm prune runs/first --curve

    Parameters
    ----------
    run
        The folder of a run that palm build made.
    mu
        μ' in [0, 1]: how far from the best covers a weight, as a share.
    alpha
        α': the same as an amount, in units of reward.
    method
        minimal (fewest for every weight), or for the weights asked only: greedy
        (fast) or exact (fewest).
    solver
        Integer program solver; cbc comes with PuLP. Left out: cbc, or highs where cbc fails.
    time_limit
        Seconds for the whole search; with --curve, for the whole curve.
    curve
        Show what each further policy buys: the least gap of every size.
    most
        The largest size that --curve looks for, by default 8.
    save
        Write the portfolio to this file (the run's own is left as it is).
    json
        Print one JSON document instead.
    """
    from palm_core.errors import InputError
    from palm_core.runs import Run
    from palm_core.simplex import check_number

    own = {"mu": mu, "alpha": alpha, "method": method, "solver": solver, "save": save}
    check_curve(curve, most, own)
    check_portfolio_file(save)
    if mu is not None:
        check_number(mu, name="--mu", least=0.0, most=1.0)
    if alpha is not None:
        check_number(alpha, name="--alpha", least=0.0)
    made = Run.open(run)
    changes: dict[str, Any] = {
        "prune_mu": mu,
        "prune_alpha": alpha,
        "method": method,
        "solver": solver,
        "time_limit": time_limit,
    }
    settings = replace(made.settings, **{k: v for k, v in changes.items() if v is not None})
    if curve:
        output.show_curve(
            lambda: made.curve(most=MOST if most is None else most, time_limit=time_limit or 60.0),
            "policies",
            json=json,
        )
        return
    if mu is None and alpha is None and method is None:
        raise InputError("--mu is needed (or --alpha, --method); --curve shows all sizes")
    with output.waiting("looking for the fewest policies", settings.time_limit):
        portfolio = made.prune(settings)
    if save is not None:
        save = portfolio.save(save)
    if json:
        output.print_json(showing.document(portfolio))
        return
    showing.show(portfolio)
    if save is not None:
        output.note(f"Saved to {save}")
