"""Counting SB3's training in episodes, whose lengths differ where blocks are skipped."""

from stable_baselines3.common.callbacks import BaseCallback


class Episodes(BaseCallback):
    """Ends ``learn`` after a number of episodes, whatever their lengths.

    An episode that skips residual blocks is shorter than others, and on-policy classes would play
    their last batch out. What off-policy classes do by SB3's progress (exploration, the homotopy)
    goes by episodes too.
    """

    def __init__(self, episodes: int, longest: int) -> None:
        """Allow this many episodes of at most ``longest`` steps."""
        super().__init__()
        self._episodes, self._longest, self._finished = episodes, longest, 0

    def _on_step(self) -> bool:
        ended = int(self.locals["dones"].sum())
        if ended:
            self._finished += ended
            expected = round(self.num_timesteps * self._episodes / self._finished)
            # SB3's progress is the share of this.
            self.model._total_timesteps = max(expected, self.num_timesteps + self._longest)
        return self._finished < self._episodes
