"""Stopping SB3's training after a number of episodes."""

from stable_baselines3.common.callbacks import BaseCallback


class Episodes(BaseCallback):
    """Ends ``learn`` after a number of episodes, whatever their lengths.

    An episode that skips residual blocks is shorter than others, and on-policy classes would play
    their last batch out.
    """

    def __init__(self, episodes: int) -> None:
        """Allow this many episodes."""
        super().__init__()
        self._left = episodes

    def _on_step(self) -> bool:
        self._left -= int(self.locals["dones"].sum())
        return self._left > 0
