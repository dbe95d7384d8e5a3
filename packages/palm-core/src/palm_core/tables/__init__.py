"""Tables of models and scores: reading them and selecting from them."""
