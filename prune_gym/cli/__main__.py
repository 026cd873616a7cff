"""``python -m prune_gym.cli``."""

import sys

from prune_gym.cli import main

sys.exit(main())
