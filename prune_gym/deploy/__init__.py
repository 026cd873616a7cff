"""From training to deployment: pre-training, latency tables, pruned networks on disk."""
