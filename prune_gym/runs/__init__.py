"""A search and what it leaves: the run folder, its journal, and choosing a strategy from it."""
