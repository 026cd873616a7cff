"""What agents are made of: warm-up, playing, evolution, imagination, vector critics."""
