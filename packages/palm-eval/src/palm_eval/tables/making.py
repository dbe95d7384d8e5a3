"""Tables 1, 3, 4 and 5/6 of the paper from comparisons, one section for each task.

A best entry has the least ε, and of equal ones the least δ, as the paper's bold ones; of
entries that are written alike all are best. Where only one method has an entry, none is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core import InputError
from palm_core.settings import check_choice
from palm_eval.tables.formats import ABSENT, Cell, Column, Section, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from palm_eval.comparison import Comparison, Measured

#: What the tables are called on the command line; "5" is Tables 5 and 6.
TABLES = ("1", "3", "4", "5")
_TITLES = {"palm": "PALM", "uniform": "Uniform", "random": "Random", "least": "Least gap"}
# The least gap is no method of the paper's, it is what the others are to be seen against.
_RIVALS = ("palm", "uniform", "random")
_DIGITS = 4
_QUALITY = ("epsilon", "delta")


def make_table(number: str, comparisons: Sequence[Comparison]) -> Table:
    """One of the paper's tables, with a section for each comparison.

    Args:
        number: "1" (gaps by size), "3" (perplexity by size), "4" (gaps by oracle calls) or
            "5" (all prunings; Tables 5 and 6 of the paper).
        comparisons: one for each task; their names are the sections' titles.

    Raises:
        InputError: another number, no comparison, exact gaps beside sampled ones, or
            several comparisons of which two have the same name.
    """
    makers = {"1": _sizes_by_gap, "3": _sizes_by_usage, "4": _budgets, "5": _sweeps}
    check_choice(number, tuple(makers), name="table")
    if not comparisons:
        raise InputError("comparisons: at least one is needed, got none")
    kinds = sorted({one.gaps for one in comparisons})
    if len(kinds) > 1:
        raise InputError("comparisons: exact and sampled gaps do not belong in one table")
    names = [one.name for one in comparisons]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"comparisons: {name!r} stands twice, every name must be unique")
    return makers[number](comparisons)


def _sizes_by_gap(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        number="1",
        caption=f"Approximation quality by portfolio size: (ε(P), δ(P)), {_gaps(comparisons)}. "
        "Smaller is better.",
        columns=(
            Column(title="Size", fields=("size",)),
            *(
                Column(title=title, fields=(f"{name}_epsilon", f"{name}_delta"), digits=_DIGITS)
                for name, title in _TITLES.items()
            ),
        ),
        sections=tuple(_by_size(one, _QUALITY) for one in comparisons),
        notes=(*_facts(comparisons), *_about_sizes(comparisons)),
    )


def _sizes_by_usage(comparisons: Sequence[Comparison]) -> Table:
    return Table(
        number="3",
        caption="Perplexity of the policy usage distribution by portfolio size. "
        "Higher is more balanced.",
        columns=(
            Column(title="Size", fields=("size",)),
            *(
                Column(title=title, fields=(f"{name}_perplexity",), digits=_DIGITS)
                for name, title in _TITLES.items()
            ),
        ),
        sections=tuple(_by_size(one, ("perplexity",), most=True) for one in comparisons),
        notes=(*_facts(comparisons, sampled=True), *_about_sizes(comparisons)),
    )


def _budgets(comparisons: Sequence[Comparison]) -> Table:
    sections, missing = [], False
    for one in comparisons:
        rows = []
        for budget in one.budgets:
            found = (budget.palm, budget.uniform_palm)
            missing = missing or None in found
            best = _best(found, _QUALITY)
            cells = [Cell(values=(budget.oracle_calls,))]
            for entry, wins in zip(found, best, strict=True):
                cells.append(_cell(entry, _QUALITY, best=wins))
                cells.append(Cell(values=(None if entry is None else len(entry.policies),)))
            rows.append(tuple(cells))
        sections.append(Section(title=one.name, blocks=(tuple(rows),)))
    notes = [
        "Each entry is the best over μ' of 0.01 to 0.10; beside it how many policies that keeps."
    ]
    if missing:
        notes.append(
            f"{ABSENT} Uniform PALM: the runs have no policy for some of its weights; "
            "--task asks its oracle."
        )
    return Table(
        number="4",
        caption=f"Approximation quality by oracle calls: (ε(P), δ(P)), {_gaps(comparisons)}. "
        "Smaller is better.",
        columns=(
            Column(title="Oracle calls", fields=("oracle_calls",)),
            Column(title="PALM", fields=("palm_epsilon", "palm_delta"), digits=_DIGITS),
            Column(title="Size", fields=("palm_size",)),
            Column(
                title="Uniform PALM",
                fields=("uniform_palm_epsilon", "uniform_palm_delta"),
                digits=_DIGITS,
            ),
            Column(title="Size", fields=("uniform_palm_size",)),
        ),
        sections=tuple(sections),
        notes=(*_facts(comparisons), *notes),
    )


def _sweeps(comparisons: Sequence[Comparison]) -> Table:
    from palm_eval.baselines import PRUNE_MUS

    notes = []
    sections = []
    for one in comparisons:
        blocks = []
        shown = set(one.chosen.values())
        for sweep in one.sweeps:
            rows = []
            for row in sweep.rows:
                best = (sweep.run, row.mu) in shown
                if not best and row.mu not in PRUNE_MUS:
                    continue
                found = row.portfolio
                rows.append(
                    (
                        Cell(values=(sweep.run,)),
                        Cell(values=(sweep.mu,)),
                        Cell(values=(sweep.alpha,)),
                        Cell(values=(sweep.oracle_calls,)),
                        Cell(values=(row.mu,), best=best),
                        Cell(values=(row.size,), best=best),
                        Cell(values=(found.epsilon,), best=best),
                        Cell(values=(found.delta,), best=best),
                        Cell(values=("yes" if best else "no",)),
                    )
                )
            blocks.append(tuple(rows))
            if sweep.target_epsilon is not None:
                notes.append(
                    f"{ABSENT} {sweep.run} was asked adaptively, for ε of "
                    f"{sweep.target_epsilon:g}: it has no μ and no α."
                )
            if sweep.missing:
                notes.append(f"{sweep.run}: {sweep.missing} of its weights have no answer.")
        sections.append(Section(title=one.name, blocks=tuple(blocks)))
    notes.append(
        "Weights are pruned greedily for μ' of 0.01 to 0.10, and for others where only they "
        "yield what Table 1 shows."
    )
    return Table(
        number="5/6",
        caption=f"All prunings of the runs, {_gaps(comparisons)}.",
        columns=(
            Column(title="", fields=("run",)),
            Column(title="Input μ", fields=("mu",)),
            Column(title="Input α", fields=("alpha",)),
            Column(title="Oracle calls", fields=("oracle_calls",)),
            Column(title="Pruning μ'", fields=("prune_mu",)),
            Column(title="Size", fields=("size",)),
            Column(title="ε(P)", fields=("epsilon",), digits=_DIGITS),
            Column(title="δ(P)", fields=("delta",), digits=_DIGITS),
            Column(title="", fields=("in_table_1",)),
        ),
        sections=tuple(sections),
        notes=(*_facts(comparisons), *notes),
        leading=4,
        best="what Table 1 shows",
        best_rows=True,
    )


def _by_size(one: Comparison, names: tuple[str, ...], *, most: bool = False) -> Section:
    """A row for each size, the values of ``names`` of each method in it."""
    rows = []
    for size in one.sizes:
        found = {name: one.methods[name].get(size) for name in _TITLES}
        best = _best([found[name] for name in _RIVALS], names, most=most)
        wins = dict(zip(_RIVALS, best, strict=True))
        cells = [_cell(found[name], names, best=wins.get(name, False)) for name in _TITLES]
        rows.append((Cell(values=(size,)), *cells))
    return Section(title=one.name, blocks=(tuple(rows),))


def _values(entry: Measured, names: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(getattr(entry, name) for name in names)


def _cell(entry: Measured | None, names: tuple[str, ...], *, best: bool) -> Cell:
    absent = (None,) * len(names)
    return Cell(values=absent if entry is None else _values(entry, names), best=best)


def _best(
    entries: Sequence[Measured | None], names: tuple[str, ...], *, most: bool = False
) -> list[bool]:
    """Which entries are the best as they are written; none where there is no rival."""
    sign = -1 if most else 1
    written = [
        None
        if entry is None
        else tuple(sign * round(value, _DIGITS) for value in _values(entry, names))
        for entry in entries
    ]
    there = [one for one in written if one is not None]
    return [len(there) > 1 and one == min(there) for one in written]


def _gaps(comparisons: Sequence[Comparison]) -> str:
    """How the gaps of the comparisons were measured, as part of a sentence."""
    if comparisons[0].gaps == "exact":
        return "the multiplicative and the additive gap over all weights, exactly"
    samples = sorted({one.samples for one in comparisons})
    counts = " or ".join(map(str, samples))
    return f"the multiplicative and the additive gap over {counts} sampled weights"


def _facts(comparisons: Iterable[Comparison], *, sampled: bool = False) -> list[str]:
    """A note for each comparison: what it is of, and what its gaps are against."""
    found = []
    for one in comparisons:
        units = (
            "in the oracle's units"
            if one.normalization == "none"
            else "rewards scaled to [0, 1] over all of them"
        )
        title = f"{one.name}: objectives" if one.name else "Objectives"
        note = f"{title} {', '.join(one.objectives)}; against {one.candidates} policies, {units}"
        if sampled or one.gaps == "sampled":
            note += f"; {one.samples} sampled weights, seed {one.seed}"
        found.append(f"{note}.")
    return found


def _about_sizes(comparisons: Sequence[Comparison]) -> list[str]:
    """What the columns are, and why entries are absent."""
    notes = [
        "PALM: the best pruning of that size over all runs and μ'. Random: the mean of three "
        "runs. Least gap: the choice of that size among the runs' policies with the least ε "
        "that was found (not in the paper)."
    ]
    for one in comparisons:
        why: dict[tuple[str, str], list[int]] = {}
        for (method, size), reason in one.absent.items():
            if method in _TITLES:
                why.setdefault((method, reason), []).append(size)
        for (method, reason), sizes in why.items():
            of = f"{one.name}, " if one.name else ""
            listed = ", ".join(map(str, sorted(sizes)))
            notes.append(f"{ABSENT} {of}{_TITLES[method]} at {listed}: {reason}.")
    return notes
