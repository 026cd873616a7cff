"""Find boxes in a detector's raw maps, score them, and compute the loss to train with."""
