"""Export of a portfolio's models, to be served or published.

What is exported is what was measured: every artifact is held against the hash in the run's
ledger first.
"""
