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
    """Print the paper's tables for a run: text, Markdown, LaTeX, CSV.

        palm tables runs/first --task task.toml --format markdown

    PALM and its baselines, by portfolio size and by number of oracle calls.

    Parameters
    ----------
    run
        Folder of a run made by palm build.
    more
        Further runs of the same oracle, for example on other grids.
    task
        Task file of the runs. Its oracle is called for baselines at weights that the runs
        have no answer for; without it these entries are missing.
    out
        Folder for one file per table; created if it does not exist. By default the tables
        are printed.
    format
        Plain text, Markdown, LaTeX (booktabs), or CSV.
    table
        1 (gaps by size), 3 (usage by size), 4 (gaps by oracle calls) or 5 (all prunings;
        Tables 5 and 6 of the paper). May be repeated. By default all.
    sizes
        Portfolio sizes in Tables 1 and 3. By default up to one more than the runs' largest.
    gaps
        Exact gaps over all weights, or sampled ones as in the paper.
    normalize
        minmax over all policies, as in the paper, or none. By default as in the runs.
    samples
        Number of sampled weights.
    seed
        Seed of the sampled weights and the baselines.
    json
        Print one JSON document instead, with all numbers.
    """
    from palm_core import InputError
    from palm_eval.comparison.runs import compare_runs
    from palm_eval.tables import TABLES, make_table

    numbers = [number for number in TABLES if number in table or not table]
    if format == "csv" and out is None and len(numbers) > 1 and not json:
        raise InputError("--format csv: one table can be printed; requires --table N or --out DIR")
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
