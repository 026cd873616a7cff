"""The numbers of a short episode of every id, to notice what moves.

    PYTHONPATH=.:tests/helpers python tests/helpers/id_numbers.py [ID ...]

writes those of the given ids, or of all whose data are at hand, into ``tests/envs/id_numbers.json``
and leaves the others. A change of that file belongs into CHANGELOG.md with its reason.
"""

import json
import sys
import zlib
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from playing import constant, play
from real_data import why_no_env

from envs_registry import ENVS, VERSION

FILE = Path(__file__).parents[1] / "envs" / "id_numbers.json"
NAMED = [f"{name}-{VERSION}" for name in ENVS if ENVS[name].get("network")]
ACTION = 0.2
# bfloat16 gives other numbers than float32, which every processor has.
CHOOSE_PRECISION = "prune_gym._utils.device.bfloat16_is_fast"
DIGITS = 4  # of observations: float32 sums differ between processors in the last ones


def numbers(env_id, patch):
    """Play one episode in float32; return what must not move. ``patch`` is pytest's MonkeyPatch."""
    patch.setattr(CHOOSE_PRECISION, lambda device="cpu": False)
    env = gym.make(env_id)
    observations, rewards, infos = play(env, constant(ACTION))
    rounded = np.round(observations.astype(np.float64), DIGITS) + 0.0
    decisions = json.dumps(infos[-1]["strategy"]["decisions"]).encode()
    return {
        "metrics": infos[-1]["strategy"]["metrics"],
        "rewards": np.round(rewards.sum(axis=0), 5).tolist(),
        "observations": np.round(rounded.mean(axis=0), 3).tolist(),
        "decisions": zlib.crc32(decisions),
    }


if __name__ == "__main__":
    known = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for env_id in sys.argv[1:] or NAMED:
        if not why_no_env(env_id):
            known[env_id] = numbers(env_id, pytest.MonkeyPatch())
            print(env_id, known[env_id]["metrics"]["accuracy"], flush=True)
    lines = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known)]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
