"""From an ``nn.Module`` to its table of layers, channel groups and residual blocks."""
