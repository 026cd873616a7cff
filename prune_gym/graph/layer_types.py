"""The batch-norms that are understood: of maps, and of vectors."""

from torch import nn

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d
