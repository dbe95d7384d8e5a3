"""The ledger of a run: answers, attempts and sessions in one crash-safe SQLite file."""

from __future__ import annotations

from palm_core.run.ledger.reader import Counts, Records, Session
from palm_core.run.ledger.schema import Answer
from palm_core.run.ledger.writer import FILE_NAME, Ledger

__all__ = ["FILE_NAME", "Answer", "Counts", "Ledger", "Records", "Session"]
