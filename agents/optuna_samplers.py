"""Optuna's multi-objective samplers over whole strategies: what an engineer would reach for.

``optuna:tpe`` is the tree-structured Parzen estimator ("Multiobjective Tree-Structured Parzen
Estimator", Ozaki et al., JAIR 2022), ``optuna:gp`` a Gaussian process per objective that maximises
the expected hypervolume improvement (Daulton, Balandat & Bakshy, NeurIPS 2020). One study, one
parameter per decision, one direction per objective; its first trials are the shared warm-up.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np

from agents.parts.playing import play
from agents.parts.settings import Settings
from agents.parts.spaces import require_actions
from agents.parts.warm_up import warm_up
from prune_gym.errors import unknown

try:
    import optuna
except ImportError as error:
    raise ImportError(
        f"optuna: agents need an extra ({error}): pip install 'prune-gym[rivals]'"
    ) from error

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    # The warm-up is what the samplers' own random trials are for.
    "tpe": lambda seed: optuna.samplers.TPESampler(
        multivariate=True, n_startup_trials=1, seed=seed
    ),
    "gp": lambda seed: optuna.samplers.GPSampler(n_startup_trials=1, seed=seed),
}


def search_with(name: str) -> Callable[[gym.Env, Settings], None]:
    """Return the search function of a sampler by its name.

    Raises:
        ValueError: no such sampler.
    """
    if name not in SAMPLERS:
        raise ValueError(unknown("Optuna sampler", name, SAMPLERS))

    def search(env: gym.Env, settings: Settings) -> None:
        require_actions(env, gym.spaces.Box, f"optuna:{name}")
        core = env.unwrapped
        decisions, objectives = len(core.decisions), core.reward_dim  # type: ignore[attr-defined]
        axis = optuna.distributions.FloatDistribution(-1.0, 1.0)
        axes: dict[str, optuna.distributions.BaseDistribution] = {
            str(decision): axis for decision in range(decisions)
        }
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line per trial
        study = optuna.create_study(
            sampler=SAMPLERS[name](settings.seed), directions=["maximize"] * objectives
        )
        for row in warm_up(settings.episodes, decisions, settings.seed):
            study.enqueue_trial(dict(zip(axes, row.tolist(), strict=True)))
        for _ in range(settings.episodes):
            trial = study.ask(axes)
            returns, _ = play(env, np.array([trial.params[key] for key in axes]))
            study.tell(trial, returns.tolist())

    return search
