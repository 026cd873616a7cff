"""Keep every epoch's figures and the best weights of a training."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from prune_gym._utils.interrupts import interrupts_wait
from prune_gym.errors import FileAccessError


class History:
    """Figures of every finished epoch and the weights of the best one, for checkpoints.

    Attributes:
        epochs: per epoch ``search_accuracy``, ``loss``, ``learning_rate`` and ``seconds``.
        best: state of the network after the epoch of the highest search accuracy, the later one of
            equals, on the processor.
    """

    def __init__(self, log: Path | None = None) -> None:
        """Start empty; with a folder ``log`` the figures are written there for TensorBoard."""
        self.epochs: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}
        self._log = log
        self._writer: SummaryWriter | None = None

    @property
    def best_epoch(self) -> int:
        """The epoch of `best`, counted from 1; 0 before the first."""
        accuracies = [each["search_accuracy"] for each in self.epochs]
        if not accuracies:
            return 0
        return len(accuracies) - accuracies[::-1].index(max(accuracies))

    def add(self, figures: dict[str, float], network: nn.Module) -> None:
        """Take the figures of an epoch, and the network's weights where they are the best."""
        self.epochs.append(figures)
        self._write(len(self.epochs))
        if self.best_epoch == len(self.epochs):
            self.best = {
                key: value.detach().cpu().clone() if torch.is_tensor(value) else deepcopy(value)
                for key, value in network.state_dict().items()
            }

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors."""
        return {"epochs": self.epochs, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.epochs, self.best = list(state["epochs"]), state["best"]
        for epoch in range(1, len(self.epochs) + 1):
            self._write(epoch)

    def _write(self, epoch: int) -> None:
        if self._log is None:
            return
        if self._writer is None:  # not before: another training's figures are not to be lost
            for stale in self._log.glob("events.out.tfevents.*"):
                stale.unlink()  # written again, with the same content, where training goes on
            try:
                self._writer = SummaryWriter(str(self._log))
            except OSError as error:
                raise FileAccessError(f"{self._log} cannot be written ({error})") from error
        with interrupts_wait():
            for name, value in self.epochs[epoch - 1].items():
                self._writer.add_scalar(name, value, epoch)
            self._writer.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
