"""The network seen as something to cut: layer table, surgery, repair, batch-norm folding."""
