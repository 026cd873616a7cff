"""How good answers within budgets are that a search did not have, where every strategy is known.

    python benchmarks/any_budget.py DIR [--agent ablation-no-learning]

DIR is a folder of ``prune-gym benchmark`` with `ChannelPrune-Table-v0` and the default agent, or
one of its ablations by the name of its folder. For each of 21 budgets the most accurate strategy
within it is asked for, and its accuracy is compared with that of the best strategy that there is.
Four answers:

- archive: the most accurate evaluated strategy within the budget;
- policy: the learned policy plays an episode under the budget; nothing is evaluated for it;
- sensitivity: the first strategy that ``sensitivity`` plans within the budget;
- uniform: the largest ratio for all layers that keeps the budget.

Printed are means over the budgets and the largest loss, for every seed.
"""

import argparse
from pathlib import Path

import gymnasium as gym
import numpy as np

from prune_gym.agents.ehvi_envelope_ddpg.ehvi_envelope_ddpg import EHVIEnvelopeDDPG
from prune_gym.agents.sensitivity.sensitivity import planned
from prune_gym.envs.rollouts import rollout
from prune_gym.envs.tabulated import TabulatedEnv
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.experiments.results import read_results

ID = "ChannelPrune-Table-v0"
BUDGETS = [
    *({"flops": share} for share in (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
    *({"memory": share} for share in (0.2, 0.3, 0.4, 0.5, 0.6)),
    *(
        {"flops": flops, "memory": memory}
        for flops in (0.2, 0.3, 0.5)
        for memory in (0.2, 0.3, 0.5)
    ),
]
MOST_ACCURATE = np.array([1, 0, 0], np.float32)  # the preference over accuracy, flops, memory


def answer(agent: EHVIEnvelopeDDPG, problem: CompressionProblem) -> np.ndarray:
    """Return the values that a policy proposes within the budgets, ``(1, decisions)``."""

    def act(observations: np.ndarray, _: np.ndarray) -> np.ndarray:
        return agent.predict(observations, MOST_ACCURATE)[0]

    return rollout(problem, act, 1).values


def uniform(problem: CompressionProblem) -> np.ndarray:
    """Return the values of the largest uniform ratio within the budgets, ``(1, decisions)``."""
    ratios = np.linspace(-1, 1, 201)
    values = np.stack([problem.space.decode(np.full(len(problem.space), r)) for r in ratios])
    return values[problem.feasible(values)][-1:]


def lost(env: TabulatedEnv, agent: EHVIEnvelopeDDPG, evaluated: np.ndarray) -> np.ndarray:
    """Return the accuracy that each answer lacks within each budget, ``(budgets, 4)``."""
    everything, rows = env.strategies(), []
    for budgets in BUDGETS:
        problem = env.problem.with_budgets(budgets)
        best, archive = (
            env.returns(values[problem.feasible(values)])[:, 0].max()
            for values in (everything, evaluated)
        )
        others = [answer(agent, problem), planned(problem, 1, 0), uniform(problem)]
        rows.append(best - np.array([archive, *(env.returns(each)[0, 0] for each in others)]))
    return np.array(rows)


def main() -> None:
    """Print a row per seed and the mean over them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--agent", default="ehvi-envelope-ddpg")
    options = parser.parse_args()
    env = gym.make(ID).unwrapped
    assert isinstance(env, TabulatedEnv)
    found = []
    for run in sorted((options.folder / "runs" / ID / options.agent).iterdir()):
        records = read_results(run).records
        evaluated = np.array([env.problem.values_of(record.strategy) for record in records])
        found.append(lost(env, EHVIEnvelopeDDPG.load(run / "agent.zip"), evaluated))
        print(run.name, *_described(found[-1]), sep="   ", flush=True)
    print("all   ", *_described(np.concatenate(found)), sep="   ")


def _described(found: np.ndarray) -> list[str]:
    names = ("archive", "policy", "sensitivity", "uniform")
    pairs = zip(names, found.mean(axis=0), found.max(axis=0), strict=True)
    return [f"{name} {mean:.4f} (at most {most:.4f})" for name, mean, most in pairs]


if __name__ == "__main__":
    main()
