"""``python -m prune_gym.cli``."""

import sys

from prune_gym_start import main

sys.exit(main())
