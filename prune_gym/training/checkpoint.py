"""Keep checkpoints of a training: written atomically, two generations, checked when read."""

import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_gym._utils.paths import new_file
from prune_gym._utils.state import state_tensors
from prune_gym.errors import UserError
from prune_gym.training.history import History


def identity(network: nn.Module, shape: object, data: str, recipe: object) -> dict[str, str]:
    """Return what tells trainings apart: the recipe, the data and the weights at the start.

    ``shape`` is what tells networks apart beside their weights, by its string.
    """
    digest = hashlib.sha256(str(shape).encode())
    for value in state_tensors(network).values():
        digest.update(value.cpu().numpy().tobytes())
    return {"recipe": repr(recipe), "data": data, "network or start": digest.hexdigest()}


class Training:
    """A training that can go on where it was interrupted.

    A checkpoint holds the network, the optimizer, the random numbers and the history.
    """

    def __init__(
        self,
        path: Path,
        identity: dict[str, str],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        rng: np.random.Generator,
        history: History | None = None,
    ) -> None:
        """Keep checkpoints at ``path``; ``identity`` must be the same to go on."""
        self._path, self._identity, self._history = path, identity, history or History()
        self._network, self._optimizer, self._rng = network, optimizer, rng

    def resume(self, device: torch.device) -> int:
        """Load the last whole checkpoint where there is one; return the epochs that are done.

        Raises:
            UserError: the checkpoint is damaged or belongs to another training.
        """
        state = load_checkpoint(self._path, self._identity, device)
        if state is None:
            return 0
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rng.bit_generator.state = state["rng"]
        self._history.load_state_dict(state["history"])
        return state["epoch"]

    def save(self, epochs: int) -> None:
        """Write a checkpoint after so many epochs."""
        state = {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "rng": self._rng.bit_generator.state,
            "history": self._history.state_dict(),
            "epoch": epochs,
        }
        save_checkpoint(self._path, self._identity, state)


def save_checkpoint(path: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Write ``state`` (tensors and plain data); the checkpoint before it is kept beside it.

    ``identity`` says what is trained and how; it must be the same to go on.
    """
    content = io.BytesIO()  # torch.save hides a full disk behind errors of its own
    torch.save({"identity": identity, **state}, content)
    with new_file(path) as file:
        file.write(content.getbuffer())
        if path.is_file():
            path.replace(_previous(path))


def load_checkpoint(
    path: Path, identity: dict[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """Return the last whole checkpoint's state, or None where there is none at all.

    A damaged one is passed over for the one before, with a warning.

    Raises:
        UserError: every checkpoint there is damaged, or they belong to another training.
    """
    found = [each for each in (path, _previous(path)) if each.is_file()]
    for each in found:
        try:
            _check_sums(each)
            state = torch.load(each, weights_only=True, map_location=device)
            before = state.pop("identity")
        except Exception as error:  # torch raises many kinds for a damaged file
            warnings.warn(
                f"{each} is damaged ({error or type(error).__name__}); the one before it is taken, "
                "if that is whole",
                stacklevel=2,
            )
            continue
        changed = [key for key in identity if before.get(key) != identity[key]]
        if changed:
            raise UserError(
                f"{each} belongs to another training (other {', '.join(changed)}); give the same "
                "options, or another --out"
            )
        return state
    if found:
        raise UserError(
            f"no whole checkpoint is left; delete {' and '.join(map(str, found))} to start again"
        )
    return None


def _check_sums(path: Path) -> None:
    """Refuse a file with a flipped bit, which torch.load does not look for."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise UserError(f"{damaged} has another checksum")


def delete_checkpoint(path: Path) -> None:
    """Remove both generations."""
    path.unlink(missing_ok=True)
    _previous(path).unlink(missing_ok=True)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")
