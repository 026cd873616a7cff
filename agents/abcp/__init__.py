"""ABCP: blocks and channels jointly, by a controller."""
