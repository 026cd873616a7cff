import pytest

from prune_gym.profiling.rapl import Rapl, millijoules_per_call


@pytest.fixture
def powercap(tmp_path):
    """Lay out two packages, of which one has a part, and the counter of the memory."""
    for name in ("intel-rapl", "intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1", "dtpm"):
        (tmp_path / name).mkdir()
        if ":" in name:
            (tmp_path / name / "energy_uj").write_text("1000000\n")
            (tmp_path / name / "max_energy_range_uj").write_text("5000000\n")
    return tmp_path


def test_packages_add_up_and_their_parts_do_not(powercap):
    rapl = Rapl(powercap)
    before = rapl.read()
    for name, energy in (
        ("intel-rapl:0", 3_000_000),
        ("intel-rapl:0:0", 9),
        ("intel-rapl:1", 1_500_000),
    ):
        (powercap / name / "energy_uj").write_text(f"{energy}\n")
    assert rapl and rapl.joules(before, rapl.read()) == pytest.approx(2.5)


def test_a_counter_that_ran_over(powercap):
    rapl = Rapl(powercap)
    before = rapl.read()
    (powercap / "intel-rapl:0" / "energy_uj").write_text("200000\n")
    assert rapl.joules(before, rapl.read()) == pytest.approx(4.2)


def test_no_counters(tmp_path):
    assert not Rapl(tmp_path)


def test_energy_of_a_call(powercap):
    counter = powercap / "intel-rapl:1" / "energy_uj"

    def run():
        counter.write_text(str(int(counter.read_text()) + 7_000))

    assert millijoules_per_call(run, 0.0, Rapl(powercap)) == pytest.approx(7.0)
