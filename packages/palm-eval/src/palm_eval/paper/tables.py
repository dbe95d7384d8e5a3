"""Tables of a study: its results beside the paper's numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_eval.paper.claims import CLAIMS, Numbers, published, verdicts
from palm_eval.paper.study import claim_rates
from palm_eval.tables import Cell, Column, Section, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_eval.comparison import Comparison
    from palm_eval.paper.claims import Published, Verdict
    from palm_eval.paper.study import Drawn, Experiment, Rate

_METHODS = {"palm": "PALM", "uniform": "Uniform", "random": "Random"}
_DIGITS = 4
_NOTHING = "nothing to check"


def claims_table(found: Experiment) -> Table:
    """The paper's claims, checked on the paper's numbers and on the study's."""
    paper = None if found.study.published is None else published(found.study.published)
    columns = {
        "at V": verdicts(Numbers.of(found.sampled)),
        "every weight": verdicts(Numbers.of(found.exact)),
    }
    if paper is not None:
        columns = {"the paper's own numbers": verdicts(Numbers.printed(paper))} | columns
    rows = [
        (Cell(values=(claim,)), *(Cell(values=(_verdict(one[key]),)) for one in columns.values()))
        for key, claim in CLAIMS.items()
    ]
    return Table(
        number="claims",
        caption="Which claims of section 4 hold, and in how many of the comparisons they imply.",
        columns=(
            Column(title="Claim", fields=("claim",)),
            *(Column(title=title, fields=(title.replace(" ", "_"),)) for title in columns),
        ),
        sections=(Section(title="", blocks=(tuple(rows),)),),
        notes=(
            "V are sampled weights, as the paper measures; every weight is exact. A gap that is "
            "equal to four digits is not behind.",
        ),
    )


def _verdict(one: Verdict) -> str:
    if one.holds is None:
        return _NOTHING
    return f"{'holds' if one.holds else 'does not hold'}, {one.held} of {len(one.checks)}"


def quality_table(found: Experiment) -> Table:
    """Table 1 as the paper measures it, with the paper's numbers."""
    paper = _printed(found)
    quality = paper.quality if paper else {}
    cells = []
    for size in found.sampled.sizes:
        row = [Cell(values=(size,))]
        for method in _METHODS:
            if paper:
                row.append(Cell(values=quality.get(size, {}).get(method, (None, None))))
            one = found.sampled.methods[method].get(size)
            row.append(Cell(values=(None, None) if one is None else one.quality))
        cells.append(tuple(row))
    return Table(
        number="1",
        caption=f"Approximation quality (ε, δ) at the {found.sampled.samples} weights of V"
        + (", beside what the paper prints." if paper else "."),
        columns=(Column(title="Size", fields=("size",)), *_columns(paper, ("epsilon", "delta"))),
        sections=(Section(title="", blocks=(tuple(cells),)),),
    )


def usage_table(found: Experiment) -> Table:
    """Table 3, with the paper's numbers."""
    paper = _printed(found)
    printed = paper.perplexity if paper else {}
    cells = []
    for size in found.exact.sizes:
        row = [Cell(values=(size,))]
        for method in _METHODS:
            if paper:
                row.append(Cell(values=(printed.get(size, {}).get(method),)))
            one = found.exact.methods[method].get(size)
            row.append(Cell(values=(None if one is None else one.perplexity,)))
        cells.append(tuple(row))
    return Table(
        number="3",
        caption=f"Perplexity of the policy usage over {found.exact.samples} weights.",
        columns=(Column(title="Size", fields=("size",)), *_columns(paper, ("perplexity",))),
        sections=(Section(title="", blocks=(tuple(cells),)),),
    )


def _columns(paper: Published | None, values: tuple[str, ...]) -> list[Column]:
    columns = []
    for method, title in _METHODS.items():
        if paper:
            fields = tuple(f"{method}_{value}_paper" for value in values)
            columns.append(Column(title=f"{title}, paper", fields=fields, digits=_DIGITS))
        fields = tuple(f"{method}_{value}" for value in values)
        columns.append(Column(title=title, fields=fields, digits=_DIGITS))
    return columns


def exact_table(found: Experiment) -> Table:
    """Table 1 over every weight: underestimation at V, and intervals over prompts."""
    cells = []
    for size in found.exact.sizes:
        row = [Cell(values=(size,))]
        for method in ("palm", "uniform", "random"):
            one = found.exact.methods[method].get(size)
            row.append(Cell(values=(None, None) if one is None else one.quality))
            if method == "random":
                continue
            interval = found.intervals.get((method, size))
            row.append(Cell(values=(None if interval is None else _within(interval),)))
        row.append(Cell(values=(_missed(found, size),)))
        cells.append(tuple(row))
    notes = [
        "Intervals of ε are bootstrapped over prompts (95 %). The last column is how much of "
        "PALM's ε sampling missed.",
    ]
    if found.no_intervals:
        notes.append(f"No intervals: {found.no_intervals}.")
    quality = ("epsilon", "delta")
    return Table(
        number="1-exact",
        caption="Approximation quality (ε, δ) over every weight, exactly.",
        columns=(
            Column(title="Size", fields=("size",)),
            Column(title="PALM", fields=tuple(f"palm_{q}" for q in quality), digits=_DIGITS),
            Column(title="ε with other prompts", fields=("palm_interval",)),
            Column(title="Uniform", fields=tuple(f"uniform_{q}" for q in quality), digits=_DIGITS),
            Column(title="ε with other prompts", fields=("uniform_interval",)),
            Column(title="Random", fields=tuple(f"random_{q}" for q in quality), digits=_DIGITS),
            Column(title="missed at V", fields=("missed",)),
        ),
        sections=(Section(title="", blocks=(tuple(cells),)),),
        notes=tuple(notes),
    )


def _within(intervals: Mapping[str, object]) -> str:
    one = intervals["epsilon"]
    return f"{one.lower:.4f} to {one.upper:.4f}"  # type: ignore[attr-defined]  # an Interval


def _missed(found: Experiment, size: int) -> str | None:
    exact = found.exact.methods["palm"].get(size)
    if exact is None or exact.epsilon <= 0:
        return None
    seen = _at_v(found.sampled, exact.policies)
    return None if seen is None else f"{1 - seen / exact.epsilon:.0%}"


def _at_v(sampled: Comparison, policies: tuple[str, ...]) -> float | None:
    """ε at V of the same portfolio, if a sweep contains it."""
    for sweep in sampled.sweeps:
        for row in sweep.rows:
            if set(row.portfolio.policies) == set(policies):
                return row.portfolio.epsilon
    return None


def budget_table(found: Experiment) -> Table:
    """Table 4 over every weight and at V, with the paper's numbers."""
    paper = _printed(found)
    printed = paper.budgets if paper else {}
    cells = []
    for exact, sampled in zip(found.exact.budgets, found.sampled.budgets, strict=True):
        calls = exact.oracle_calls
        row = [Cell(values=(calls,))]
        for method in ("palm", "uniform_palm"):
            if printed:
                row.append(Cell(values=printed.get(calls, {}).get(method, (None, None))))
            for one in (sampled, exact):
                entry = getattr(one, method)
                row.append(Cell(values=(None, None) if entry is None else entry.quality))
        cells.append(tuple(row))
    columns = [Column(title="Oracle calls", fields=("oracle_calls",))]
    for method, title in (("palm", "PALM"), ("uniform_palm", "Uniform-PALM")):
        kinds = [("paper", f"{title}, paper")] if printed else []
        kinds += [("sampled", f"{title}, at V"), ("exact", f"{title}, every weight")]
        for kind, heading in kinds:
            fields = tuple(f"{method}_{value}_{kind}" for value in ("epsilon", "delta"))
            columns.append(Column(title=heading, fields=fields, digits=_DIGITS))
    return Table(
        number="4",
        caption="Approximation quality (ε, δ) by oracle calls, each the best over μ' of 0.01 to "
        "0.10.",
        columns=tuple(columns),
        sections=(Section(title="", blocks=(tuple(cells),)),),
    )


def rates_table(found: Sequence[Drawn]) -> Table:
    """How often each claim held on simulated tasks."""
    cells = []
    exact, sampled = claim_rates(found, "exact"), claim_rates(found, "sampled")
    for key, claim in CLAIMS.items():
        if key not in exact:
            continue
        row = [Cell(values=(claim,))]
        for rates in (sampled, exact):
            row += [Cell(values=(_rate(one),)) for one in rates[key]]
        cells.append(tuple(row))
    return Table(
        number="simulated",
        caption=f"How often the claims hold on {len(found)} simulated tasks with an exact oracle, "
        "with 95 % intervals.",
        columns=(
            Column(title="Claim", fields=("claim",)),
            Column(title="tasks, at V", fields=("tasks_sampled",)),
            Column(title="comparisons, at V", fields=("checks_sampled",)),
            Column(title="tasks, every weight", fields=("tasks_exact",)),
            Column(title="comparisons, every weight", fields=("checks_exact",)),
        ),
        sections=(Section(title="", blocks=(tuple(cells),)),),
        notes=(
            "Tasks: all that the claim implies held. Comparisons of one task depend on each "
            "other, so their intervals are too narrow.",
        ),
    )


def _rate(one: Rate) -> str:
    lower, upper = one.interval
    return f"{one.share:.0%} ({lower:.0%} to {upper:.0%})"


def _printed(found: Experiment) -> Published | None:
    return None if found.study.published is None else published(found.study.published)
