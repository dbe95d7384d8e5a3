"""``palm export``: what was trained, ready to be served."""
