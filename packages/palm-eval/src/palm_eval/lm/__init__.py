"""Language models: sources, loading, memory, prompts, estimates; shared by oracles."""
