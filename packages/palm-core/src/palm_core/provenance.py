"""What a run is made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

#: What the arithmetic on answers depends on.
PACKAGES = ("palm-core", "numpy", "scipy", "numba", "pulp")
#: What answers may depend on, as far as it is installed; kept with each session of a run.
ORACLE_PACKAGES = (
    *("palm-eval", "palm-mod", "palm-trl"),
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "vllm", "ray"),
)


def versions(*more: str) -> dict[str, str]:
    """Package → version, of Python, of ours and of ``more``, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # only what is installed has a version
    return found
