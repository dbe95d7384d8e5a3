"""One Hypothesis profile for the whole suite: no deadlines on shared machines."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "palm",
    deadline=None,
    max_examples=100,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("palm")
