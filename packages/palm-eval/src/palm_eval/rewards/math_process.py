"""Equivalence of two formulas, judged by math-verify in a subprocess.

The subprocess exits when a comparison exceeds its timeout, even inside C code that no signal
interrupts (``9^{9^{9}}``), and when its parent ends; its memory is limited where the system
supports it. It answers one line per request, so that threads can share it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from palm_core import WorkError

# Memory limit of the subprocess: enough for sympy, harmless for the machine.
_MEMORY = 4 * 1024**3
# Maximum length of an answer; parsing takes more than linear time.
LONGEST_ANSWER = 2000
#: Loading sympy takes about a second, several on a busy machine.
_START = 120.0


def equivalent(expected: str, answer: str, seconds: float) -> bool:
    """Whether two LaTeX answers are equivalent; false if too long, too slow or unparsable.

    Args:
        expected: the ground truth, without its box.
        answer: the answer to judge, without its box.
        seconds: timeout of the comparison.

    Raises:
        WorkError: the subprocess does not start.
    """
    expected, answer = expected.strip(), answer.strip()
    if expected == answer:
        return True
    if not answer or max(len(expected), len(answer)) > LONGEST_ANSWER:
        return False
    return _JUDGE.ask(expected, answer, seconds)


class _Judge:
    """The subprocess, started on first use and restarted after it exits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._inherited: subprocess.Popen[str] | None = None
        atexit.register(self._end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave)

    def ask(self, expected: str, answer: str, seconds: float) -> bool:
        with self._lock:
            try:
                process = self._running()
                reply = _exchange(process, {"of": [expected, answer], "seconds": seconds})
            except BaseException:  # interrupted: the next request must not read this answer
                self._end()
                raise
            if reply is None:  # timeout or memory limit
                self._end()
                return False
            return reply == "true"

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "palm_eval.rewards.math_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            )
            if _exchange(self._process, {"seconds": _START}) != "true":
                self._end()
                raise WorkError(
                    "math: the process that compares answers cannot be started: "
                    f"try {sys.executable} -m palm_eval.rewards.math_process"
                )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # unsent data are discarded
                    pipe.close()
        process.wait()

    def _leave(self) -> None:
        """Reset after a fork: the subprocess is the parent's, the lock may stay locked."""
        self._lock = threading.Lock()
        self._process, self._inherited = None, self._process


def _exchange(process: subprocess.Popen[str], question: dict[str, object]) -> str | None:
    """The subprocess's answer to one request, or ``None`` if it has exited."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip() or None
    except OSError:
        return None  # it has exited


_JUDGE = _Judge()


def _work() -> None:
    """Answer requests from standard input until end of file."""
    import faulthandler
    import logging

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not be read as an answer
    logging.disable(logging.CRITICAL)
    _limit_memory()
    with Path(os.devnull).open("w") as nowhere:
        for line in sys.stdin:
            question = json.loads(line)
            # A C thread: it exits the process whatever Python is doing.
            faulthandler.dump_traceback_later(question["seconds"], exit=True, file=nowhere)
            verdict = _same(*question["of"]) if "of" in question else _ready()
            faulthandler.cancel_dump_traceback_later()
            answers.write(json.dumps(verdict) + "\n")
            answers.flush()


def _ready() -> bool:
    return _same("1", "1.0")  # warm-up: loads all modules


def _same(expected: str, answer: str) -> bool:
    from math_verify import parse, verify

    try:
        gold = parse(f"${expected}$", parsing_timeout=None)
        given = parse(f"${answer}$", parsing_timeout=None)
        return bool(verify(gold, given, timeout_seconds=None))
    except (Exception, RecursionError):  # noqa: BLE001 sympy raises anything on odd input
        return False


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


if __name__ == "__main__":
    _work()
