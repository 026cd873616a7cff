"""The Markdown table of a benchmark."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prune_gym.experiments.benchmark.figures import EARLY
from prune_gym.experiments.benchmark.statistics import Interval, interval
from prune_gym.experiments.benchmark.summary import Summary, best_rival
from prune_gym.experiments.commands import env_words, shell_line

MADE_BY = ("commit", "processor", "threads", "number format")
COLUMNS = (
    "agent",
    "seeds",
    "hypervolume",
    "expected utility",
    "proposed: hypervolume",
    "proposed: utility",
    "evaluations to the best rival",
)
TRUE = "% of the true hypervolume"
SECONDS = "seconds of the agent"
EXPLAINED = """\
Interquartile means over seeds with 95 % bootstrap intervals. *Hypervolume* and *expected utility*
are of everything evaluated, at the end or after the first evaluations; *proposed* is what the agent
answers for a fixed grid of preferences after the search: its learned policy, or (archive) the best
it has evaluated. *Evaluations to the best rival*: how many the agent needs to reach the final
hypervolume of the best other agent. *Seconds of the agent*: processor time of a run that
evaluations do not take: choosing, learning, steps of the environment."""


def markdown(summaries: Mapping[str, Sequence[Summary]], about: Mapping[str, Any]) -> str:
    """Return the tables of all environments, with the command and what made them on top.

    ``about`` is the content of ``about.json``, empty where there is none.
    """
    sections = (f"### {env}\n\n{agents_table(list(agents))}" for env, agents in summaries.items())
    return "\n\n".join([made_with(summaries, about), EXPLAINED, *sections]) + "\n"


def made_with(summaries: Mapping[str, Sequence[Summary]], about: Mapping[str, Any]) -> str:
    """Return the command that makes these results and, as far as is known, what it ran on."""
    used = [f"{name} {version}" for name, version in about.get("versions", {}).items()]
    used += [f"{name} {about[name]}" for name in MADE_BY if name in about]
    made = f"Made with `{command(summaries, about.get('env_kwargs', {}))}`"
    return made + (f"\n({', '.join(used)})." if used else "")


def command(summaries: Mapping[str, Sequence[Summary]], env_kwargs: Mapping[str, Any]) -> str:
    """Return the command that makes these results."""
    everything = [summary for agents in summaries.values() for summary in agents]
    agents = dict.fromkeys(summary.agent for summary in everything)
    seeds = max(len(summary.curve.volumes) for summary in everything)
    evaluations = everything[0].curve.evaluations[-1]
    words = ["prune-gym", "benchmark", "--envs", *summaries, "--agents", *agents]
    words += ["--seeds", str(seeds), "--evaluations", str(evaluations), *env_words(env_kwargs)]
    return shell_line([*words, "--out", "DIR"])


def agents_table(agents: list[Summary]) -> str:
    """Return the table of one environment, a row per agent in the order given."""
    known = all("true_hypervolume" in summary.final for summary in agents)
    early = [count for count in EARLY if count in agents[0].curve.evaluations[:-1]]
    timed = any(len(summary.seconds) for summary in agents)
    columns = [*COLUMNS, *([TRUE] if known else []), *([SECONDS] if timed else [])]
    columns[2:2] = [f"hypervolume after {count}" for count in early]
    lines = [_row(columns), _row(["---"] * len(columns))]
    lines += [_row(_cells(summary, agents, early, known, timed)) for summary in agents]
    return "\n".join(lines)


def _cells(
    summary: Summary, agents: list[Summary], early: Sequence[int], known: bool, timed: bool
) -> list[str]:
    final, rival = summary.final, best_rival(summary, agents)
    cells = [
        summary.agent,
        str(len(summary.curve.volumes)),
        *(_shown(interval(summary.curve.after(count))) for count in early),
        _shown(summary.hypervolume),
        _shown(interval(final["expected_utility"])),
        f"{_shown(interval(final['proposed_hypervolume']))} {summary.proposals}",
        _shown(interval(final["proposed_utility"])),
        "" if rival is None else _reached(summary, rival),
    ]
    if known:
        share = interval(final["hypervolume"] / final["true_hypervolume"])
        cells.append(_shown(Interval(*(100 * end for end in share)), 2))
    if timed:
        cells.append(_shown(interval(summary.seconds), 1) if len(summary.seconds) else "")
    return cells


def _reached(summary: Summary, rival: Summary) -> str:
    needed = interval(summary.curve.reaching(rival.hypervolume.point))
    most = summary.curve.evaluations[-1]
    point, low, high = (f"{n:.0f}" if math.isfinite(n) else f"> {most}" for n in needed)
    return point if point == low == high else f"{point} ({low} to {high})"


def _shown(value: Interval, digits: int = 4) -> str:
    point, low, high = (f"{number:.{digits}f}" for number in value)
    return point if low == high else f"{point} ({low} to {high})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
