"""Text from elsewhere, made fit to be shown: one line that moves no cursor."""

from __future__ import annotations

import difflib
import math
import re
from decimal import ROUND_CEILING, Context, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The longest message: what was given is shown, a megabyte of it is not.
LONGEST = 600
#: The longest of what an exception says.
LONGEST_REASON = 300
#: The longest name of a policy, an objective or an artifact.
LONGEST_NAME = 4096
# Controls (a terminal obeys them), line breaks, turns of the reading direction, and
# halves of characters, which cannot be encoded.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Whether ``text`` can be shown as it is: no controls, line breaks or half characters."""
    return _UNFIT.search(text) is None


def complaint(name: str) -> str | None:
    """Why ``name`` cannot be a name: it would act on a terminal, or fill it. Or ``None``."""
    if not is_plain(name):
        return f"{one_line(repr(name), 80)} has characters that cannot be shown"
    if len(name) > LONGEST_NAME:
        return f"{one_line(repr(name), 80)} is longer than {LONGEST_NAME}"
    return None


def one_line(text: object, most: int = LONGEST) -> str:
    r"""Return ``text`` fit to be shown: controls escaped (``\x1b``), the middle of more cut out.

    Args:
        text: any object, written by ``str``.
        most: the greatest number of characters.
    """
    written = str(text)
    if len(written) > most:
        half = (most - 3) // 2
        written = f"{written[:half]} … {written[-half:]}"
    return _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), written)


def harmless(text: str) -> str:
    """Return ``text`` with its controls escaped, but for line breaks."""
    return "\n".join(one_line(line, max(LONGEST, len(line))) for line in text.split("\n"))


def nearest(given: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that may have been meant, capitals aside; ``None`` where none is near.

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


def reason(error: Exception) -> str:
    """What ``error`` says, on one line; its type too where the text alone is no sentence."""
    text = " ".join(str(error).split())
    if len(text) > LONGEST_REASON:
        text = text[:LONGEST_REASON] + " …"
    if isinstance(error, (ImportError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def read_number(text: str) -> float:
    """A number or a fraction, as the paper writes its parameters: "0.02", "8/30".

    Raises:
        ValueError, ZeroDivisionError: it is neither.
    """
    # in floats: an exact Fraction("1e999999999") would take all the memory there is
    above, slash, below = text.partition("/")
    return float(above) / (float(below) if slash else 1.0)


def at_most(value: float, *, percent: bool = False, digits: int = 3) -> str:
    """Write a bound in three digits, rounded up: what is shown is still a bound.

    Args:
        value: the bound.
        percent: write 100 times it, without the sign %.
        digits: significant digits.

    Example:
        >>> at_most(0.021), at_most(3.9301), at_most(0.0), at_most(0.07, percent=True)
        ('0.021', '3.94', '0', '7')
    """
    if value <= 0 or not math.isfinite(value):
        return f"{value:g}"
    exact = Decimal(repr(float(value))) * (100 if percent else 1)
    up = Context(prec=digits, rounding=ROUND_CEILING).plus(exact)
    return f"{float(up):.{digits}g}"
