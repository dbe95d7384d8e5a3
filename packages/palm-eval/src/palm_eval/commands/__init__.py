"""Commands that palm-eval adds to ``palm``, one module each (``palm.commands``)."""
