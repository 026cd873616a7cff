"""Compress the user's own network in one call: search, choose, fine-tune."""

from prune_gym.compress_network.result import Compressed
from prune_gym.compress_network.workflow import compress

__all__ = ["Compressed", "compress"]
