"""BoTorch's noisy expected hypervolume improvement over whole strategies: the strong outside rival.

A Gaussian process predicts the accuracy, costs are given as exact functions, and the strategy of
the largest qLogNEHVI ("Unexpected Improvements to Expected Improvement for Bayesian Optimization",
Ament, Daulton, Eriksson, Balandat & Bakshy, NeurIPS 2023) is evaluated. The acquisition function is
optimized by BoTorch's local search over the options. Model, priors and acquisition have BoTorch's
defaults; the first evaluations are the shared initial design.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.common.rollout import play
from prune_gym.errors import MissingExtraError, UserError, unknown
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.objectives.objective import saving

try:
    from botorch import fit_gpytorch_mll
    from botorch.acquisition.multi_objective.logei import (
        qLogNoisyExpectedHypervolumeImprovement,
    )
    from botorch.models import GenericDeterministicModel, ModelList, SingleTaskGP
    from botorch.models.model import Model
    from botorch.optim import optimize_acqf_discrete_local_search
    from botorch.utils.sampling import manual_seed
    from gpytorch.mlls import ExactMarginalLogLikelihood
except ImportError as error:
    raise MissingExtraError(
        f"botorch: agents need an extra ({error}): pip install 'prune-gym[botorch]'"
    ) from error

ACQUISITIONS = ("qlognehvi",)
RESTARTS, CANDIDATES = 4, 128  # of the local search


def search_with(name: str) -> Callable[[gym.Env, Settings], None]:
    """Return the search function of an acquisition function by its name.

    Raises:
        UserError: no such acquisition function.
    """
    if name not in ACQUISITIONS:
        raise UserError(unknown("BoTorch acquisition function", name, ACQUISITIONS))
    return search


def search(env: gym.Env, settings: Settings) -> None:
    """Evaluate the initial design, then always the strategy of the largest qLogNEHVI.

    Raises:
        UserError: the environment has discrete actions.
    """
    require_actions(env, gym.spaces.Box, "botorch:qlognehvi")
    problem = problem_of(env)
    axes = _Axes(problem)
    places: list[np.ndarray] = []
    returns: list[np.ndarray] = []
    actions = initial_design(settings.episodes, len(problem.space), settings.seed)
    with manual_seed(settings.seed):
        while len(returns) < settings.episodes:
            for row in actions:
                total, info = play(env, row, None if returns else settings.seed)
                returns.append(total)
                places.append(axes.places(problem.values_of(info["strategy"])[None])[0])
            if len(returns) < settings.episodes:
                chosen = _choose(axes, np.array(places), np.array(returns))
                actions = problem.space.encode(axes.values(chosen))


def _choose(axes: "_Axes", places: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Return the places ``(1, decisions)`` of the next strategy."""
    seen, reached = torch.as_tensor(places), torch.as_tensor(returns)
    models: list[Model] = []
    for column, exact in enumerate(axes.exact):
        if exact is None:
            process = SingleTaskGP(seen, reached[:, column, None])
            fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process))
            models.append(process)
        else:
            models.append(GenericDeterministicModel(exact))
    acquisition = qLogNoisyExpectedHypervolumeImprovement(
        ModelList(*models),
        ref_point=axes.problem.reference_point.tolist(),
        X_baseline=seen,
        prune_baseline=True,
        cache_root=False,  # which costs that are exact functions do not have
    )
    chosen, _ = optimize_acqf_discrete_local_search(
        acquisition,
        discrete_choices=axes.choices,
        q=1,
        num_restarts=RESTARTS,
        raw_samples=CANDIDATES,
        X_avoid=seen,
    )
    return chosen.numpy()


class _Axes:
    """An axis from 0 to 1 for every decision, with its options evenly spaced.

    Attributes:
        problem: what is optimized.
        choices: the places of each decision's options.
        exact: for each objective what computes it from places ``(..., decisions)``, or None where
            it has to be measured.
    """

    def __init__(self, problem: CompressionProblem) -> None:
        self.problem = problem
        counts = [len(decision.options) for decision in problem.decisions]
        self.choices = [torch.linspace(0, 1, count, dtype=torch.float64) for count in counts]
        self.exact = [
            self._saving(o.name) if o.name != "accuracy" and o.deterministic else None
            for o in problem.objectives
        ]

    def places(self, values: np.ndarray) -> np.ndarray:
        """Return where values (n, decisions) lie, ``(n, decisions)``."""
        pairs = zip(self.problem.decisions, values.T, self.choices, strict=True)
        return np.column_stack(
            [choices[np.searchsorted(d.options, column)].numpy() for d, column, choices in pairs]
        )

    def values(self, places: np.ndarray) -> np.ndarray:
        """Return the values at places (n, decisions), ``(n, decisions)``."""
        pairs = zip(self.problem.decisions, places.T, strict=True)
        return np.column_stack(
            [d.options[np.rint(at * (len(d.options) - 1)).astype(int)] for d, at in pairs]
        )

    def _saving(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        problem = self.problem
        cost = problem.costs[name]

        def saved(places: torch.Tensor) -> torch.Tensor:
            flat = places.detach().numpy().reshape(-1, places.shape[-1])
            values = problem.space.canonicalise(self.values(flat))
            shares = saving(cost(problem.space.configure(values)), cost(original))
            return torch.as_tensor(shares, dtype=torch.float64).reshape(*places.shape[:-1], 1)

        original = problem.original_configuration
        return saved
