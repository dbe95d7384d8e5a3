"""Which metrics there are, getting one by its name, and what it says of a portfolio.

A metric is a function of a portfolio, the candidates that it is measured against, and
weights (k, d); both sets are in the space that weights speak of. Packages announce theirs
as entry points of the group ``palm.metrics``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from palm_core import InputError, PalmError, PolicySet, WorkError
from palm_core._entry_points import available, load_function
from palm_core._factories import Kind
from palm_core.simplex import check_number
from palm_core.text import one_line, reason

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

#: ``(portfolio, candidates, weights) -> float``
Metric = Callable[[PolicySet, PolicySet, Any], float]

_METRIC = Kind(noun="metric", group="palm.metrics")
_SIGNATURE = "(portfolio, candidates, weights) -> number"


def available_metrics() -> tuple[str, ...]:
    """The sorted names of the installed metrics; imports none of them."""
    return available(_METRIC)


def load_metric(name: str, folder: str | Path | None = None, /) -> Metric:
    """The metric called ``name``.

    Args:
        name: an entry point's name ("hypervolume" …), or "module:function".
        folder: where such a module is looked for first; ``None`` means the current one.

    Raises:
        PluginError: no such metric, or it does not import; ``__cause__`` says why.
        InputError: what was found is not a function.
    """
    return cast("Metric", load_function(_METRIC, name, folder, _SIGNATURE))


def metric_value(
    name: str,
    metric: Metric,
    portfolio: PolicySet,
    candidates: PolicySet,
    weights: NDArray[np.float64],
) -> float:
    """What ``metric`` says of a portfolio, checked.

    Args:
        name: of the metric, for messages.
        metric: gets ``weights`` to read, not to write.
        portfolio: P.
        candidates: C ⊇ P, in the space of P.
        weights: V (k, d).

    Raises:
        InputError: as the metric raised it, with its name.
        WorkError: the metric failed otherwise, or it returned no finite number.
    """
    shared = weights.view()
    shared.flags.writeable = False
    try:
        value = metric(portfolio, candidates, shared)
    except PalmError as error:
        kind = InputError if isinstance(error, InputError) else WorkError
        raise kind(f"metric {name!r}: {one_line(error)}") from error
    except Exception as error:
        raise WorkError(f"metric {name!r} failed: {one_line(reason(error))}") from error
    try:
        return check_number(value, name=f"metric {name!r}")
    except InputError:
        shown = one_line(repr(value), 80)
        raise WorkError(f"metric {name!r} returned {shown}, must return a finite number") from None
