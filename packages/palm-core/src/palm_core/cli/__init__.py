"""Command line ``palm``; no library module imports it."""
