"""The benchmark: agents on equal terms, one cell per environment, agent and seed."""
