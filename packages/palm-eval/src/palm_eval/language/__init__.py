"""Language models as oracles and their measuring share them: names, loading, prompts, texts."""
