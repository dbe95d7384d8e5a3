"""Validation of arguments, and text for error messages."""

from __future__ import annotations

import difflib
import math
import re
from contextlib import suppress
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal
from numbers import Integral, Real
from typing import TYPE_CHECKING

from palm_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray


# Tolerance of the sum: rounded weights (0.333 + 0.333 + 0.334) and sums of many floats
# are off by far less, a forgotten objective by far more.
SUM_TOLERANCE = 1e-6


def check_weights(
    weights: ArrayLike, n_objectives: int | None = None, *, name: str = "weights"
) -> NDArray[np.float64]:
    """Return ``weights`` as a C-contiguous float64 array of rows on the simplex.

    Args:
        weights: one weight vector (d,) or one per row (k, d).
        n_objectives: the d that is expected; ``None`` accepts any d ≥ 2.
        name: name of the argument in error messages.

    Returns:
        Array (k, d). Rows whose sum differs from one by rounding only are
        divided by it, so that J_w(π) = w·(r(π) − f(π)·1) holds to the last bit
        that float64 has.

    Raises:
        InputError: wrong shape, a value that is not finite or is negative, or
            a row that does not add to one within 1e-6.

    Example:
        >>> check_weights([0.25, 0.75])
        array([[0.25, 0.75]])
        >>> check_weights([0.5, 0.6])
        Traceback (most recent call last):
        ...
        palm_core.errors.InputError: weights: 0.5, 0.6 add to 1.1, must add to 1
    """
    import numpy as np  # lazy: the text functions here are used at start-up

    try:
        rows = np.array(weights, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: must be numbers in an array (k, d): {error}") from error
    if rows.ndim == 1:
        rows = rows[np.newaxis, :]
    if rows.ndim != 2:
        raise InputError(f"{name}: must have shape (d,) or (k, d), has {rows.shape}")
    if n_objectives is not None and rows.shape[1] != n_objectives:
        raise InputError(
            f"{name}: {rows.shape[1]} values per row, must be {n_objectives}, one per objective"
        )
    if rows.shape[1] < 2:
        raise InputError(f"{name}: at least 2 objectives are needed, got {rows.shape[1]}")
    total = rows.sum(axis=1)
    # A NaN fails every comparison, so this one line finds all bad rows.
    good = (rows >= 0).all(axis=1) & (np.abs(total - 1.0) <= SUM_TOLERANCE)
    if not good.all():
        raise InputError(_complaint(rows, int(np.argmin(good)), name))
    off = total != 1.0
    if off.any():
        rows[off] /= total[off, np.newaxis]
    return rows


def _complaint(rows: NDArray[np.float64], index: int, name: str) -> str:
    row = rows[index]
    where = name if len(rows) == 1 else f"{name} row {index}"
    shown = ", ".join(f"{value:.6g}" for value in row[:8]) + (", …" if row.size > 8 else "")
    if not all(map(math.isfinite, row)):
        return f"{where}: {shown} must be finite numbers"
    if (row < 0).any():
        return f"{where}: {shown} must not be negative"
    return f"{where}: {shown} add to {row.sum():.6g}, must add to 1"


def check_count(value: object, *, name: str, least: int) -> int:
    """Return ``value`` as an int of at least ``least``, or raise :class:`InputError`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} = {value!r}: must be a whole number of at least {least}")
    if value < least:
        raise InputError(f"{name} = {value}: must be at least {least}")
    return int(value)


def check_number(
    value: object,
    *,
    name: str,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    hint: str = "",
) -> float:
    """Return ``value`` as a finite float in ``(above, most]`` or ``[least, most]``.

    Raises:
        InputError: naming the field, the value and the interval; ``hint`` is
            appended after a semicolon.
    """
    number = float("nan")
    if not isinstance(value, bool) and isinstance(value, Real):
        with suppress(OverflowError):  # beyond float64: refused below, as NaN is
            number = float(value)
    low = -math.inf if least is None else least
    high = math.inf if most is None else most
    if math.isfinite(number) and low <= number <= high and (above is None or number > above):
        return number
    if above is not None and most is not None:
        accepted = f"must be in ({above:g}, {most:g}]"
    elif least is not None and most is not None:
        accepted = f"must be in [{least:g}, {most:g}]"
    elif above is not None:
        accepted = f"must be a finite number above {above:g}"
    elif least is not None:
        accepted = f"must be a finite number of at least {least:g}"
    else:
        accepted = "must be a finite number"
    raise InputError(f"{name} = {value!r}: {accepted}" + (f"; {hint}" if hint else ""))


def check_choice(value: object, accepted: tuple[str, ...], *, name: str) -> str:
    """Return ``value`` if it is one of ``accepted``, or raise :class:`InputError`."""
    if isinstance(value, str) and value in accepted:
        return value
    near = did_you_mean(str(value), accepted)
    given = one_line(repr(value), 80)
    raise InputError(f"{name} = {given}: must be one of {', '.join(accepted)}{near}")


def percent_text(value: float | None, digits: int = 2, *, up: bool = False) -> str:
    """Format 0.0142 as "1.42 %", ``None`` as "—", ∞ as "unbounded".

    ``up`` rounds up, as a bound must be.
    """
    if value is None:
        return "—"
    if not math.isfinite(value):
        return "unbounded"
    exact = Decimal(repr(float(value))) * 100
    step = Decimal(1).scaleb(-digits)
    text = f"{exact.quantize(step, ROUND_CEILING if up else ROUND_HALF_EVEN)}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    if float(text) == 0 and value > 0:
        return f"{100 * value:.1g} %"
    return f"{text} %"


def number_text(value: float, *, up: bool = False) -> str:
    """Format a number with four significant digits, whole numbers without a decimal point.

    ``up`` rounds up, as a bound must be.
    """
    if value == 0:
        return "0"
    if abs(value) >= 1000 and value == int(value) and abs(value) < 1e15:
        return f"{int(value)}"
    return bound_text(value, digits=4) if up else f"{value:.4g}"


def weights_text(weights: Sequence[float] | NDArray[np.float64], objectives: Sequence[str]) -> str:
    """Format a weight vector as "helpful = 0.70, …"; with two objectives only the first."""
    if len(objectives) == 2:
        return f"{objectives[0]} = {weights[0]:.2f}"
    named = zip(objectives, weights, strict=True)
    return ", ".join(f"{name} = {weight:.2f}" for name, weight in named if weight >= 0.005)


#: Maximum length of a message.
LONGEST = 600
#: Maximum length of an exception's text.
LONGEST_REASON = 300
#: Maximum length of the name of a policy, an objective or an artifact.
LONGEST_NAME = 4096
# Control characters, line breaks, bidirectional controls, and lone surrogates, which cannot
# be encoded.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Whether ``text`` has no control characters, line breaks or lone surrogates."""
    return _UNFIT.search(text) is None


def complaint(name: str) -> str | None:
    """Why ``name`` is not accepted as a name (control characters, length), or ``None``."""
    if not is_plain(name):
        return f"{one_line(repr(name), 80)} has characters that cannot be shown"
    if len(name) > LONGEST_NAME:
        return f"{one_line(repr(name), 80)} is longer than {LONGEST_NAME}"
    return None


def one_line(text: object, most: int = LONGEST) -> str:
    r"""Return ``text`` on one line: control characters escaped (``\x1b``), the middle elided.

    Args:
        text: any object, converted by ``str``.
        most: the greatest number of characters.
    """
    written = str(text)
    if len(written) > most:
        half = (most - 3) // 2
        written = f"{written[:half]} … {written[-half:]}"
    return _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), written)


def harmless(text: str) -> str:
    """Return ``text`` with control characters escaped, except line breaks."""
    return "\n".join(one_line(line, max(LONGEST, len(line))) for line in text.split("\n"))


def nearest(given: str, names: Iterable[str]) -> str | None:
    """The nearest of ``names``, ignoring case; ``None`` where none is near.

    Example:
        >>> nearest("Helpfull", ["helpful", "brief"])
        'helpful'
    """
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(given.casefold(), list(folded), n=1)
    return folded[near[0]] if near else None


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where a name is near, else nothing."""
    near = nearest(given, names)
    return "" if near is None else f"; did you mean {near!r}?"


def error_reason(error: Exception) -> str:
    """The text of ``error`` on one line, with its type unless the text is a sentence."""
    text = " ".join(str(error).split())
    if len(text) > LONGEST_REASON:
        text = text[:LONGEST_REASON] + " …"
    if isinstance(error, (ImportError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def read_number(text: str) -> float:
    """Parse a number or a fraction, as the paper writes its parameters: "0.02", "8/30".

    Raises:
        ValueError, ZeroDivisionError: it is neither.
    """
    # in floats: an exact Fraction("1e999999999") would exhaust memory
    above, slash, below = text.partition("/")
    return float(above) / (float(below) if slash else 1.0)


def bound_text(value: float, *, percent: bool = False, digits: int = 3) -> str:
    """Format a bound in three digits, rounded up, so that the text is still a bound.

    Args:
        value: the bound.
        percent: write 100 times it, without the sign %.
        digits: significant digits.

    Example:
        >>> [bound_text(0.021), bound_text(3.9301), bound_text(0.07, percent=True)]
        ['0.021', '3.94', '7']
    """
    if value <= 0 or not math.isfinite(value):
        return f"{value:g}"
    exact = Decimal(repr(float(value))) * (100 if percent else 1)
    up = Context(prec=digits, rounding=ROUND_CEILING).plus(exact)
    return f"{float(up):.{digits}g}"
