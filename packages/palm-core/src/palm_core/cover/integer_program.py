"""Set cover as an integer program: CBC or HiGHS through PuLP, or SciPy's HiGHS."""

from __future__ import annotations

import importlib
import tempfile
import time
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.errors import InputError, PalmWarning, WorkError
from palm_core.validation import check_choice, error_reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.intp]

SOLVERS = ("cbc", "highs")

# Codes of scipy.optimize.milp.
_MILP_OPTIMAL, _MILP_INFEASIBLE = 0, 2

#: Paths of CBC executables that failed in this process: they are not tried again.
_failed: set[str] = set()


def check_solver(solver: object) -> None:
    """Raise :class:`InputError` unless ``solver`` is ``None`` or an installed solver."""
    if solver is None:
        return
    check_choice(solver, SOLVERS, name="solver")
    if solver == "highs" and find_spec("highspy") is None:
        raise InputError(
            "solver = 'highs': requires the extra palm-core[highs]; 'cbc' comes with palm-core"
        )


def integer_program(
    table: NDArray[np.bool_],
    *,
    solver: str | None,
    seconds: float,
    start: Indices | None = None,
    most: int | None = None,
) -> tuple[str, bool, Indices | None]:
    """Cover every column by the fewest rows.

    CBC is an executable shipped with PuLP. Where it is missing, is built for another
    processor, crashes or returns no cover, SciPy's HiGHS is used instead, with a
    :class:`PalmWarning`, once.

    Args:
        table: (r, c) which row covers which column.
        solver: "cbc", "highs" (both through PuLP, an error where they fail), or ``None``
            for cbc with HiGHS as the fallback.
        seconds: time limit.
        start: initial cover (cbc).
        most: maximum number of rows.

    Returns:
        The name of the solver; whether the cover is proven minimum, or infeasibility
        proven; the rows of the best cover, ``None`` where none was found.

    Raises:
        WorkError: the solver failed, or answered with something that is not a cover.
    """
    if solver == "highs":
        return solver, *_by_pulp(table, solver, seconds, start, most)
    begun = time.perf_counter()
    path = _cbc_path()
    if solver == "cbc" or path not in _failed:
        try:
            return "cbc", *_by_pulp(table, "cbc", seconds, start, most)
        except WorkError as error:
            if time.perf_counter() - begun >= seconds:
                # CBC may crash as it stops at its limit, which then says nothing of CBC.
                return "cbc", False, None
            if solver == "cbc":
                hint = "reinstall pulp, or omit the solver to use HiGHS"
                raise WorkError(f"{error}; {hint}") from error
            _failed.add(path)
            warnings.warn(f"{error}; SciPy's HiGHS is used instead", PalmWarning, stacklevel=2)
    left = seconds - (time.perf_counter() - begun)
    return "highs", *_by_scipy(table, max(left, seconds / 10), most)


def _by_scipy(
    table: NDArray[np.bool_], seconds: float, most: int | None
) -> tuple[bool, Indices | None]:
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import csr_array

    limits = [LinearConstraint(csr_array(table.T, dtype=float), lb=1.0)]
    if most is not None:
        limits.append(LinearConstraint(np.ones((1, len(table))), ub=most))
    found = milp(
        np.ones(len(table)),
        integrality=np.ones(len(table)),
        bounds=(0, 1),
        constraints=limits,
        options={"time_limit": seconds},
    )
    if found.status == _MILP_INFEASIBLE:
        return True, None
    if found.x is None:
        return False, None
    chosen = np.flatnonzero(found.x > 0.5)
    return _checked("highs", table, chosen, proven=found.status == _MILP_OPTIMAL)


def _checked(
    name: str, table: NDArray[np.bool_], chosen: Indices, *, proven: bool
) -> tuple[bool, Indices | None]:
    """Validate a solver's answer; ``None`` if it is not a cover.

    Raises:
        WorkError: it says that it is the smallest cover, and it is none.
    """
    if table[chosen].any(axis=0).all():
        return proven, chosen
    if proven:
        raise WorkError(f"{_title(name)} returned rows that leave columns uncovered")
    return False, None


def _cbc_path() -> str:
    import pulp

    return str(pulp.PULP_CBC_CMD.pulp_cbc_path)


def _by_pulp(
    table: NDArray[np.bool_],
    name: str,
    seconds: float,
    start: Indices | None,
    most: int | None,
) -> tuple[bool, Indices | None]:
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
    engine = _engine(pulp, name, seconds, warm=start is not None)
    try:
        with tempfile.TemporaryDirectory(prefix="palm-") as folder:
            engine.tmpDir = folder
            status = model.solve(engine)
    except Exception as error:  # PuLP, after a crash or malformed output of the solver
        raise WorkError(f"{_title(name)} failed: {error_reason(error)}") from error
    if status == pulp.LpStatusInfeasible:
        return True, None
    # After a timeout the status may still be Optimal: use sol_status.
    if model.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        return False, None
    chosen = np.array([i for i, row in enumerate(rows) if (row.varValue or 0) > 0.5], np.intp)
    proven = model.sol_status == pulp.LpSolutionOptimal
    return _checked(name, table, chosen, proven=proven)


def _title(name: str) -> str:
    """The solver's name for messages, with the path of an executable."""
    return f"the solver cbc ({_cbc_path()})" if name == "cbc" else f"the solver {name}"


def _engine(pulp: Any, name: str, seconds: float, *, warm: bool) -> Any:
    if name == "highs":
        engine = pulp.HiGHS(msg=False, timeLimit=seconds)
        if not engine.available():
            # PuLP hides the reason; for example, highspy and ortools conflict in one process.
            try:
                importlib.import_module("highspy")
            except ImportError as error:
                raise WorkError(
                    f"the solver highs cannot be loaded: {error_reason(error)}"
                ) from error
        return engine
    # On set covers CBC is two to five times as fast without cuts and heuristics.
    engine = pulp.COIN_CMD(
        path=_cbc_path(),
        msg=False,
        timeLimit=seconds,
        warmStart=warm,
        options=["cuts off", "heuristicsOnOff off"],
    )
    if not engine.available():
        raise WorkError(f"{_title(name)} is missing or not executable")
    return engine
