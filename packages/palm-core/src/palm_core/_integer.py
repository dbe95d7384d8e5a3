"""Set cover as an integer program, solved through PuLP by CBC or HiGHS."""

from __future__ import annotations

import importlib
import tempfile
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.errors import InputError, WorkError
from palm_core.settings import SOLVERS
from palm_core.text import did_you_mean, reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.intp]


def check_solver(solver: object) -> None:
    """Raise :class:`InputError` unless ``solver`` is ``None`` or one that is here."""
    if solver is None:
        return
    if solver not in SOLVERS:
        near = did_you_mean(str(solver), SOLVERS)
        raise InputError(f"solver = {solver!r}: must be one of {', '.join(SOLVERS)}{near}")
    if solver == "highs" and find_spec("highspy") is None:
        raise InputError(
            "solver = 'highs': needs the extra palm-core[highs]; 'cbc' is always there"
        )


def integer_program(
    table: NDArray[np.bool_],
    *,
    solver: str | None,
    seconds: float,
    start: Indices | None = None,
    most: int | None = None,
) -> tuple[str, bool, Indices | None]:
    """Cover every column by the fewest rows, by PuLP.

    Args:
        table: (r, c) which row covers which column.
        solver: "cbc", "highs", or ``None`` for cbc.
        seconds: time limit.
        start: a cover to begin from (cbc).
        most: no more rows than that.

    Returns:
        The solver's name; whether its answer is proven to be minimum, or that there
        is none; the rows of the best cover, ``None`` where none was found.

    Raises:
        WorkError: the solver failed, or answered with something that is not a cover.
    """
    import pulp

    model = pulp.LpProblem("cover", pulp.LpMinimize)
    rows = [model.add_variable(f"x{i}", 0, 1, pulp.LpInteger) for i in range(len(table))]
    model.setObjective(pulp.LpAffineExpression([(row, 1) for row in rows]))
    for column in table.T:
        covering = pulp.LpAffineExpression([(rows[i], 1) for i in np.flatnonzero(column)])
        model.addConstraint(pulp.LpConstraint(covering, pulp.LpConstraintGE, rhs=1))
    if most is not None:
        every = pulp.LpAffineExpression([(row, 1) for row in rows])
        model.addConstraint(pulp.LpConstraint(every, pulp.LpConstraintLE, rhs=most))
    if start is not None:
        for i, row in enumerate(rows):
            row.setInitialValue(int(i in start))
    name = solver or "cbc"
    with tempfile.TemporaryDirectory(prefix="palm-") as folder:
        engine = _engine(pulp, name, seconds, warm=start is not None)
        engine.tmpDir = folder
        try:
            status = model.solve(engine)
        except (pulp.PulpSolverError, OSError) as error:
            raise WorkError(f"the solver {name} failed: {reason(error)}") from error
    if status == pulp.LpStatusInfeasible:
        return name, True, None
    # After a timeout the status may still be Optimal: only sol_status tells.
    if model.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        return name, False, None
    chosen = np.array([i for i, row in enumerate(rows) if (row.varValue or 0) > 0.5], np.intp)
    proven = model.sol_status == pulp.LpSolutionOptimal
    if not table[chosen].any(axis=0).all():
        if proven:
            raise WorkError(f"the solver {name} answered with rows that leave columns uncovered")
        return name, False, None
    return name, proven, chosen


def _engine(pulp: Any, name: str, seconds: float, *, warm: bool) -> Any:
    if name == "highs":
        engine = pulp.HiGHS(msg=False, timeLimit=seconds)
        if not engine.available():
            # PuLP hides why; highspy and ortools cannot be in one process, for example.
            try:
                importlib.import_module("highspy")
            except ImportError as error:
                raise WorkError(f"the solver highs does not load: {reason(error)}") from error
        return engine
    # On covers CBC is two to five times as fast without its cuts and heuristics.
    engine = pulp.COIN_CMD(
        path=pulp.PULP_CBC_CMD.pulp_cbc_path,
        msg=False,
        timeLimit=seconds,
        warmStart=warm,
        options=["cuts off", "heuristicsOnOff off"],
    )
    if not engine.available():
        raise WorkError(
            "the solver cbc, as shipped with PuLP, does not run here; "
            "solver = 'highs' needs the extra palm-core[highs]"
        )
    return engine
