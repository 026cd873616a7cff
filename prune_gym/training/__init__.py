"""Pre-training, fine-tuning and libraries of pruned networks."""
