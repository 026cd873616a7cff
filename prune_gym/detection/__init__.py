"""From a detector's raw maps to boxes, their mean average precision, and the training loss."""
