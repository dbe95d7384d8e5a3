"""Oracle calls: what is asked and answered, and who makes them."""

from __future__ import annotations
