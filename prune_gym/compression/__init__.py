"""Turn the original network and a configuration into a candidate."""
