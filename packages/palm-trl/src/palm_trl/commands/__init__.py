"""Commands that palm-trl adds to `palm`."""
