"""Seconds per episode and where they go; steps a second without accuracy.

python benchmarks/episode.py --env ChannelPrune-VGG16-v0
"""

import argparse
import time

import gymnasium as gym
import numpy as np

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym.network.repair import merge, reestimate_batch_norm
from prune_gym.network.surgery import cut

REPEATS = 5


def seconds(call) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="ChannelPrune-VGG16-v0")
    start = time.perf_counter()
    env = gym.make(parser.parse_args().env).unwrapped
    print(f"making the environment: {time.perf_counter() - start:.2f} s (the second time: ", end="")
    start = time.perf_counter()
    gym.make(env.spec.id)
    print(f"{time.perf_counter() - start:.2f} s)")
    evaluator, table = env.evaluator, env.evaluator.table
    columns = ("cut", "merge", "bn", "fold", "score", "total")
    print(f"{'keep':>6}" + "".join(f"{name:>9}" for name in columns) + f"{'images/s':>10}")
    for ratio in (1.0, 0.75, 0.5, 0.25):
        width = np.maximum((table.full * ratio).astype(int), 1)
        kept = evaluator.kept(width)
        args = (table, kept, evaluator.calibration)
        candidate = evaluator.candidate(width)

        def batch_norm(candidate=candidate, args=args):
            reestimate_batch_norm(evaluator.network, candidate, *args, evaluator.images)

        parts = [
            seconds(lambda kept=kept: cut(evaluator.network, table, kept)),
            seconds(lambda c=candidate, a=args: merge(evaluator.network, c, *a)),
            seconds(batch_norm),
            seconds(lambda c=candidate: evaluator.fast(c)),
        ]
        fresh = evaluator.candidate(width)
        score = seconds(lambda c=fresh: evaluator.score(c, evaluator.data.search)) - parts[-1]
        total = sum(parts) + score
        row = "".join(f"{part:9.3f}" for part in [*parts, score, total])
        print(f"{ratio:>6}{row}{len(evaluator.data.search) / score:10.0f}")
    print(f"steps a second without accuracy: {steps_per_second(env):.0f}")


def steps_per_second(env) -> float:
    """Play episodes whose strategy is known already."""
    action = np.array([-1.0], dtype=np.float32)
    count, start = 0, None
    while start is None or time.perf_counter() - start < 2:
        env.reset()
        for _ in env.decisions:
            env.step(action)
            count += start is not None
        start = start or time.perf_counter()
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
