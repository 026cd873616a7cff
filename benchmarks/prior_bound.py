"""What better sensitivities could be worth, where every accuracy is known.

    python benchmarks/prior_bound.py [--seeds 3]

On ChannelPrune-Table-v0 the energy that every option loses is fitted to the accuracies of all 8,192
strategies. Sensitivities that are learned on other networks cannot be expected to do better. The
hypervolumes after 10 and 20 strategies are those of ``sensitivity`` and ``ehvi`` with the
sensitivities that the environment measures, and with the fitted ones. The best 10 and 20 of all
strategies bound every agent.
"""

import argparse
import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.logger import Logger

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym.agents import Settings, find_agent
from prune_gym.agents.sensitivity.order import SCALE
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.objectives.pareto import hypervolume, non_dominated
from prune_gym.search_space import SearchSpace

COUNTS = (10, 20)
SAMPLES = 40_000  # points of the unit box by which hypervolume is estimated
SWEEPS = 3  # over the chosen strategies, each exchanged for a better one
STEPS, RATE = 800, 0.03


def fitted(problem: CompressionProblem, values: np.ndarray) -> CompressionProblem:
    """Return the problem with sensitivities that fit the accuracies of its strategies best."""
    returns, original = problem.evaluate(values), problem.original["accuracy"]
    chance = problem.reference_point[0]
    kept = torch.from_numpy((returns[:, 0] - chance) / (original - chance)).clamp(0, 1)
    chosen = np.concatenate(
        [values[:, [at]] == decision.options for at, decision in enumerate(problem.decisions)], 1
    )
    start = np.concatenate([-np.log1p(-d.sensitivity.clip(0, 0.99)) for d in problem.decisions])
    energies = torch.nn.Parameter(torch.from_numpy(np.log(start + 1e-3)).double())
    power = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    optimizer, rows = torch.optim.Adam([energies, power], RATE), torch.from_numpy(chosen).double()
    scale = SCALE * len(problem.space)
    for _ in range(STEPS):
        predicted = torch.exp(-((rows @ energies.exp() / scale) ** power.exp()))
        optimizer.zero_grad()
        (predicted - kept).abs().mean().backward()
        optimizer.step()
    ends = np.cumsum([len(decision.options) for decision in problem.decisions])
    parts = np.split(energies.detach().exp().numpy(), ends[:-1])
    decisions = [
        dataclasses.replace(decision, sensitivity=-np.expm1(-(part - part[-1]).clip(0)))
        for decision, part in zip(problem.decisions, parts, strict=True)
    ]
    space = SearchSpace(problem.evaluator.table, decisions)
    return CompressionProblem(problem.evaluator, space, problem.costs)


def played(problem: CompressionProblem, agent: str, seed: int) -> list[float]:
    """Return the hypervolumes after :data:`COUNTS` strategies of an agent."""
    returns: list[np.ndarray] = []

    class Kept(gym.Wrapper):
        def step(self, action: Any) -> Any:
            result = self.env.step(action)
            if result[2]:
                values = problem.values_of(result[4]["strategy"])
                returns.append(problem.evaluate(values[None])[0])
            return result

    env = Kept(CompressionEnv(problem))
    find_agent(agent)(env, Settings(max(COUNTS), seed, None, Logger(None, [])))
    return [hypervolume(np.array(returns[:n]), problem.reference_point) for n in COUNTS]


def best(problem: CompressionProblem, returns: np.ndarray, count: int) -> float:
    """Return the hypervolume of the best ``count`` strategies: chosen greedily, then exchanged."""
    returns, reference = returns[non_dominated(returns)], problem.reference_point
    samples = np.random.default_rng(0).random((SAMPLES, len(reference)))
    covers = (reference + (1 - reference) * samples < returns[:, None]).all(axis=2)
    chosen: list[int] = []
    for turn in range(count * (1 + SWEEPS)):
        others = chosen if turn < count else chosen[1:]
        left = ~covers[others].any(axis=0)
        chosen = [*others, int((covers & left).sum(axis=1).argmax())]
    return hypervolume(returns[chosen], reference)


def main() -> None:
    """Print the hypervolumes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    env: Any = gym.make("ChannelPrune-Table-v0").unwrapped
    problem, values = env.problem, env.strategies()
    returns = problem.evaluate(values)
    for count in COUNTS:
        print(f"the best {count} of all: {best(problem, returns, count):.4f}", flush=True)
    problems = {"measured": problem, "fitted": fitted(problem, values)}
    for agent in ("sensitivity", "ehvi"):
        for name, each in problems.items():
            found = np.array([played(each, agent, seed) for seed in seeds])
            for count, column in zip(COUNTS, found.T, strict=True):
                spread = f"{column.mean():.4f} ({column.min():.4f} to {column.max():.4f})"
                print(f"{agent}, {name} sensitivities, {count}: {spread}", flush=True)


if __name__ == "__main__":
    main()
