"""Executors of oracle calls: in process, worker processes, Ray, ``concurrent.futures``."""

from __future__ import annotations
