"""Optuna's multi-objective samplers over whole strategies: what an engineer would reach for.

``optuna:tpe`` is the tree-structured Parzen estimator ("Multiobjective Tree-Structured Parzen
Estimator", Ozaki et al., JAIR 2022), ``optuna:gp`` a Gaussian process per objective that maximises
the expected hypervolume improvement (Daulton, Balandat & Bakshy, NeurIPS 2020). One study, one
whole number per decision (which of its options), one direction per objective; its first trials are
the shared initial design.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.common.rollout import play
from prune_gym.errors import MissingExtraError, UserError, unknown

try:
    import optuna
except ImportError as error:
    raise MissingExtraError(
        f"optuna: agents need an extra ({error}): pip install 'prune-gym[rivals]'"
    ) from error

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    # The initial design is what the samplers' own random trials are for.
    "tpe": lambda seed: optuna.samplers.TPESampler(
        multivariate=True, n_startup_trials=1, seed=seed
    ),
    "gp": lambda seed: optuna.samplers.GPSampler(n_startup_trials=1, seed=seed),
}


def search_with(name: str) -> Callable[[gym.Env, Settings], None]:
    """Return the search function of a sampler by its name.

    Raises:
        UserError: no such sampler.
    """
    if name not in SAMPLERS:
        raise UserError(unknown("Optuna sampler", name, SAMPLERS))

    def search(env: gym.Env, settings: Settings) -> None:
        require_actions(env, gym.spaces.Box, f"optuna:{name}")
        problem = problem_of(env)
        decisions, space = problem.decisions, problem.space
        # Places among the options: on an axis of actions most proposals would be repeats.
        axes: dict[str, optuna.distributions.BaseDistribution] = {
            str(index): optuna.distributions.IntDistribution(0, len(decision.options) - 1)
            for index, decision in enumerate(decisions)
        }
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line per trial
        study = optuna.create_study(
            sampler=SAMPLERS[name](settings.seed), directions=["maximize"] * len(problem.objectives)
        )
        for row in initial_design(settings.episodes, len(decisions), settings.seed):
            pairs = zip(decisions, space.decode(row), strict=True)
            places = [int(np.searchsorted(decision.options, value)) for decision, value in pairs]
            study.enqueue_trial(dict(zip(axes, places, strict=True)))
        for _ in range(settings.episodes):
            trial = study.ask(axes)
            pairs = zip(decisions, axes, strict=True)
            values = np.array([decision.options[trial.params[key]] for decision, key in pairs])
            returns, _ = play(env, space.encode(values))
            study.tell(trial, returns.tolist())

    return search
