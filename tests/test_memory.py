import resource

import numpy as np

from prune_gym.env import CompressionEnv


def resident():
    """Return the resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def test_ten_thousand_episodes_need_no_more_memory(tiny_task):
    env = CompressionEnv(**tiny_task)
    rng = np.random.default_rng(0)

    def episodes(count):
        for _ in range(count):
            env.reset()
            action = np.array([rng.choice([-1.0, 0.0, 1.0])], np.float32)
            while not env.step(action)[2]:
                pass

    episodes(500)  # the memo has all strategies and the allocator its arenas
    before = resident()
    episodes(10_000)
    assert len(env.evaluator.memo) == 3
    assert resident() - before < 4
