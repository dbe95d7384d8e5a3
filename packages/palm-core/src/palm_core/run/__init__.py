"""Runs: configuration, engine, ledger, artifacts, status."""
