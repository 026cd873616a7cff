"""Read the energy that processors have used, where Linux lets this user (RAPL)."""

import time
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
PACKAGE = "intel-rapl:[0-9]*"  # AMD's processors have the same name; parts of one have two colons


class Rapl:
    """The counters of all processor packages."""

    def __init__(self, folder: Path = POWERCAP) -> None:
        """Look for counters in ``folder``, which is laid out as ``/sys/class/powercap``."""
        packages = [each for each in sorted(folder.glob(PACKAGE)) if each.name.count(":") == 1]
        self._packages = [each for each in packages if _readable(each / "energy_uj")]

    def __bool__(self) -> bool:
        """Return whether there is a counter that can be read."""
        return bool(self._packages)

    def read(self) -> list[int]:
        """Return the microjoules of every package so far."""
        return [int((each / "energy_uj").read_text()) for each in self._packages]

    def joules(self, before: list[int], after: list[int]) -> float:
        """Return the joules between two readings; a counter that ran over starts again at 0."""
        total = 0
        for package, first, last in zip(self._packages, before, after, strict=True):
            if last < first:
                last += int((package / "max_energy_range_uj").read_text())
            total += last - first
        return total / 1e6


def millijoules_per_call(run: Callable[[], object], seconds: float, rapl: Rapl) -> float:
    """Call ``run`` for some seconds; return the mean energy of all packages, mJ per call."""
    calls, before, end = 0, rapl.read(), time.perf_counter() + seconds
    while not calls or time.perf_counter() < end:
        run()
        calls += 1
    return 1e3 * rapl.joules(before, rapl.read()) / calls


def _readable(file: Path) -> bool:
    try:
        file.read_text()
    except OSError:
        return False
    return True
