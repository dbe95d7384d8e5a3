"""The command line, as all tests that call it in their process import it."""

from palm_core.cli.app import make_app, run

__all__ = ["make_app", "run"]
