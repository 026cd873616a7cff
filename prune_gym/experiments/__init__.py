"""Running agents: run folders, the benchmark, the report and two-stage runs."""
