"""Who makes the oracle calls: this process in one stream, or an executor's workers.

Only the caller records answers; workers never see the ledger.
"""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TYPE_CHECKING, Any

from palm_core.errors import OracleAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from palm_core.oracle import Oracle


def answers(
    oracle: Oracle, weights: NDArray[np.float64], executor: Executor | None
) -> Iterator[tuple[int, Any, float]]:
    """Yield (row, answer, seconds) for every row of ``weights``, each once, as it is ready.

    Without an executor the oracle gets all rows at once, so that it can share
    work between them; with one, a call per row, in whatever order they finish.

    Raises:
        OracleAnswerError: the oracle stops before the last row.
        Exception: whatever the oracle raises, after the answers that came before.
    """
    if executor is None:
        yield from _stream(oracle, weights)
    else:
        yield from _scatter(oracle, weights, executor)


def _stream(oracle: Oracle, weights: NDArray[np.float64]) -> Iterator[tuple[int, Any, float]]:
    stream = iter(oracle.solve(weights.copy()))
    for row in range(len(weights)):
        begun = time.perf_counter()
        try:
            answer = next(stream)
        except StopIteration:
            raise OracleAnswerError(
                f"the oracle answered {row} of {len(weights)} weights and stopped"
            ) from None
        yield row, answer, time.perf_counter() - begun


def _scatter(
    oracle: Oracle, weights: NDArray[np.float64], executor: Executor
) -> Iterator[tuple[int, Any, float]]:
    waiting: dict[Future[tuple[Any, float]], int] = {
        executor.submit(_one, oracle, weights[row : row + 1]): row for row in range(len(weights))
    }
    failure: BaseException | None = None
    try:
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=waiting.__getitem__):
                row = waiting.pop(future)
                if future.cancelled():
                    continue
                error = future.exception()
                if error is not None:
                    # Calls under way are let finish: their answers are kept.
                    failure = failure or error
                    for other in waiting:
                        other.cancel()
                    continue
                answer, seconds = future.result()
                yield row, answer, seconds
    finally:
        for future in waiting:
            future.cancel()
    if failure is not None:
        raise failure


def _one(oracle: Oracle, weights: NDArray[np.float64]) -> tuple[Any, float]:
    _, answer, seconds = next(_stream(oracle, weights))
    return answer, seconds
