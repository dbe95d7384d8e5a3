"""For the whole suite: Hypothesis profiles, without deadlines on shared machines; Ctrl-C."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "palm",
    deadline=None,
    max_examples=50,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],
)
# On a schedule (nox -s scheduled): other examples each time, and more of them.
settings.register_profile(
    "scheduled", settings.get_profile("palm"), max_examples=400, derandomize=False
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
    # one process runs the tests of a class again and again
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.load_profile("palm")

# Shells start what runs in the background with Ctrl-C ignored, and whatever the tests
# start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
