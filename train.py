"""The main job out of a checkout: ``python train.py`` is ``prune-gym train``."""

import sys

from prune_gym_start import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
