"""Work in batches that get smaller where memory runs out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from palm_eval.language.memory import halved, out_of_memory, release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_batches(
    items: Sequence[_Item],
    rows: int | Callable[[Sequence[_Item]], int],
    work: Callable[[Sequence[_Item]], Sequence[_Result]],
) -> list[_Result]:
    """``work`` on all items in their order, some at a time; one result for each.

    Args:
        items: all of them.
        rows: how many at a time, or a function that says how many of those that are left.
        work: must give the same for an item whatever else is in its batch.

    Raises:
        WorkError: not enough memory for a single item.
    """
    found: list[_Result] = []
    most = len(items)
    while len(found) < len(items):
        left = items[len(found) :]
        size = max(1, min(most, len(left), rows if isinstance(rows, int) else rows(left)))
        short: Exception | None = None
        try:
            found += work(left[:size])
        except Exception as error:
            if not out_of_memory(error):
                raise
            most = halved(size, error)
            short = error.with_traceback(None)
        if short is not None:
            # Only here, where no traceback holds tensors any more, can they be freed.
            del short
            release()
    return found
