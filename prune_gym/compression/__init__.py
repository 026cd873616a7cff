"""What turns the original network and a configuration into a candidate."""
