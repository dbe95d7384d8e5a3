"""``palm tables``: the tables of the paper, from runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from palm_core.plugin import (
    Count,
    Counts,
    Flag,
    Folder,
    RunFolder,
    TaskOption,
    check_output_folder,
    output,
)
from palm_eval.commands.common import opened_runs, oracle_of

if TYPE_CHECKING:
    from palm_eval.tables import Table


_MANY = Parameter(negative="", show_default=False)


def tables(
    run: RunFolder,
    /,
    *more: RunFolder,
    task: TaskOption | None = None,
    out: Folder | None = None,
    format: Literal["text", "markdown", "latex", "csv"] = "text",  # noqa: A002  as users call it
    table: Annotated[tuple[Literal["1", "3", "4", "5"], ...], _MANY] = (),
    sizes: Counts = (),
    gaps: Literal["exact", "sampled"] = "exact",
    normalize: Literal["minmax", "none"] | None = None,
    samples: Count = 1000,
    seed: Count = 0,
    json: Flag = False,
) -> None:
    """Write the paper's tables of a run: text, Markdown, LaTeX, CSV.

        palm tables runs/first --task task.toml --format markdown

    PALM beside its baselines, by size and by oracle calls.

    Parameters
    ----------
    run
        The folder of a run that palm build made.
    more
        Further runs of the same oracle, as with other grids.
    task
        The task file of the runs: its oracle is asked for the baselines, at weights that
        the runs have no policy for. Without it those entries are missing.
    out
        A folder for one file per table, made where there is none; else they are printed.
    format
        Text for a terminal, Markdown, LaTeX (booktabs), or CSV.
    table
        1 (gaps by size), 3 (usage by size), 4 (gaps by oracle calls) or 5 (all prunings;
        Tables 5 and 6 of the paper); may be repeated. All by default.
    sizes
        Of the portfolios in Tables 1 and 3; by default up to one more than the runs have.
    gaps
        Exact over all weights, or sampled as in the paper.
    normalize
        minmax over all policies, as in the paper, or none; by default as the runs.
    samples
        How many weights are sampled.
    seed
        Of the samples and the baselines.
    json
        Print one JSON document instead, with all numbers.
    """
    from palm_core import InputError
    from palm_eval.comparison.runs import compare_runs
    from palm_eval.tables import TABLES, make_table

    numbers = [number for number in TABLES if number in table or not table]
    if format == "csv" and out is None and len(numbers) > 1 and not json:
        raise InputError("format = csv: prints one table only; say which (--table), or --out DIR")
    if out is not None:
        check_output_folder(out)
    runs = opened_runs([run, *more])
    oracle = None if task is None else oracle_of(runs[str(run)], run, task)
    with output.waiting("measuring", None):
        found = compare_runs(
            runs,
            oracle=oracle,
            sizes=sizes or None,
            gaps=gaps,
            normalize=normalize,
            samples=samples,
            seed=seed,
            least=json or "1" in numbers or "3" in numbers,
        )
    made = {number: make_table(number, [found]) for number in numbers}
    files = {} if out is None else _write(made, out, format)
    if json:
        paths = {number: str(file) for number, file in files.items()}
        output.print_json({**found.document(), "files": paths})
        return
    for file in files.values():
        output.say(str(file))
    if out is None:
        # Plain print: rich would render names like ":x:" as emoji.
        sys.stdout.write("\n".join(one.render(format) for one in made.values()))
    if format == "csv":  # which has no notes
        for note in dict.fromkeys(note for one in made.values() for note in one.notes):
            output.note(note)


def _write(made: dict[str, Table], out: Path, form: str) -> dict[str, Path]:
    from palm_core.plugin import write_atomically
    from palm_eval.tables import FORMATS

    files = {}
    for number, one in made.items():
        files[number] = out / f"table-{number}.{FORMATS[form]}"
        write_atomically(files[number], one.render(form).encode())
    return files
