"""The paper's experiments, done again: what was asked, what came out, which claims hold."""
