"""One Hypothesis profile for the whole suite: no deadlines on shared machines."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "palm",
    deadline=None,
    max_examples=100,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],
)
# Thousands of mutants are each tried on the same few examples, none of them shrunk
# (tests/mutation).
settings.register_profile(
    "mutation",
    settings.get_profile("palm"),
    max_examples=10,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("palm")
