"""Evolutionary searches: NSGA-II, JCW and EMOMC."""
