"""Paths, caches, processes, plug-ins by name and formatting; knows nothing of networks."""
