"""The searchers of the papers: what each has of its own."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from candidates import network_and_table
from nets import Residual, make
from own_module import SPLITS
from playing import Recorded
from safetensors.numpy import load_file
from stable_baselines3.common.logger import Logger

from prune_gym.agents import Settings, find_agent
from prune_gym.agents.abcp.abcp import ABCP
from prune_gym.agents.abcp.controller import Controller
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.evolution.jcw_bounds import bounded_space
from prune_gym.agents.evolution.operators import cross, mutate, offspring, snap
from prune_gym.agents.evolution.survival import (
    UniformSelection,
    crowding_distance,
    fronts,
    rank_and_crowding,
)
from prune_gym.agents.two_stage import DecayingNoise
from prune_gym.cli import main
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError
from prune_gym.search_space import Decision, SearchSpace
from prune_gym.search_space.strategy import load_strategy

QUIET = Logger(None, [])
# Accuracy and what is saved; no point dominates another, most of them are near the original.
CURVE = np.array([[0.9, 0.0], [0.8, 0.1], [0.7, 0.2], [0.5, 0.6], [0.2, 1.0]])
PAPERS = ("abcp", "emomc", "jcw", "two-stage")


def decision(kind="channels", options=(8, 16, 24, 32)):
    values = np.array(options)
    return Decision(kind, kind, values[-1], values, values, (0,), 0, np.zeros(len(values)))


def space_of(*decisions):
    return SearchSpace(network_and_table("plain")[1], decisions)


@pytest.mark.parametrize("name", PAPERS)
def test_a_search_starts_with_the_shared_warm_up(name, tiny_task):
    env = Recorded(compression_env(**tiny_task))
    find_agent(name)(env, Settings(20, 3, None, QUIET))
    space = env.unwrapped.problem.space
    assert len(env.values) == 20
    expected = snap(space, initial_design(20, len(space), 3))
    played = space.encode(np.array(env.values[: len(expected)]))
    np.testing.assert_allclose(played, expected, atol=1e-6)


def test_crowding_distance_of_a_hand_computed_front():
    found = crowding_distance(CURVE)
    expected = [np.inf, 0.2 / 0.7 + 0.2, 0.3 / 0.7 + 0.5, 0.5 / 0.7 + 0.8, np.inf]
    np.testing.assert_allclose(found, expected)


def test_fronts_are_sorted():
    returns = np.array([[0.5, 0.5], [0.4, 0.4], [0.9, 0.1], [0.3, 0.3]])
    assert [front.tolist() for front in fronts(returns)] == [[0, 2], [1], [3]]


def test_crowding_takes_the_ends_and_the_loneliest():
    assert sorted(rank_and_crowding(CURVE, 3)) == [0, 3, 4]


def test_uniform_selection_of_a_hand_computed_example():
    # Seen from a saving of 0, the first point dominates all. Seen from a saving of 1 none
    # dominates another, and of the four that are new the other end and the loneliest are taken.
    assert sorted(UniformSelection(1, references=2)(CURVE, 3)) == [0, 3, 4]
    # Seen from a saving of 0.5, the points at 0.6 and below are none better than another; the last,
    # as far from it as the first and less accurate, is dominated. The turns: the first (seen from
    # 0), the nearer end (from 0.5), the last (from 1), and the loneliest between (from 0.5).
    assert UniformSelection(1, references=3)(CURVE, 4).tolist() == [0, 3, 4, 2]


def test_every_reference_has_a_say_where_the_first_front_is_too_large():
    returns = np.random.default_rng(0).normal(size=(400, 4))
    returns /= np.linalg.norm(returns, axis=1, keepdims=True)  # none dominates another
    chosen = UniformSelection(1)(returns, 32)
    saved = returns[:, 1]
    for reference in np.linspace(saved.min(), saved.max(), 4):
        assert np.abs(saved - reference).argmin() in chosen


def test_uniform_selection_remembers_the_ends_of_the_range():
    select = UniformSelection(1)
    select(CURVE, 3)
    select(CURVE[1:3], 1)
    assert select.ends == (0.0, 1.0)


@pytest.mark.parametrize("select", [rank_and_crowding, UniformSelection(1)])
def test_selections_return_as_many_as_asked_for(select):
    returns = np.random.default_rng(0).random((30, 3))
    for count in (1, 7, 30, 40):
        chosen = select(returns, count)
        assert len(set(chosen.tolist())) == len(chosen) == min(count, 30)


@pytest.mark.parametrize("episodes", [50, 100, 300])
def test_genomes_of_the_warm_up_are_what_other_agents_play(episodes):
    env = gym.make("ChannelPrune-Table-v0").unwrapped
    space = env.problem.space
    everything = [np.ones(len(d.options), bool) for d in env.problem.decisions]
    actions = initial_design(episodes, len(space), 0)
    pairs = zip(snap(space, actions), actions, strict=True)
    for genome, row in pairs:
        for decision, every, ours, theirs in zip(
            env.problem.decisions, everything, genome, row, strict=True
        ):
            assert decision.decode(ours, every) == decision.decode(theirs, every)


@pytest.mark.parametrize("name", ["jcw", "emomc"])
def test_short_runs_play_no_strategy_twice(name):
    env = Recorded(gym.make("ChannelPrune-Table-v0").unwrapped)
    find_agent(name)(env, Settings(15, 0, None, QUIET))
    assert len(set(env.values)) == 15


def test_jcw_needs_a_cost(tiny_task):
    env = compression_env(**tiny_task | {"objectives": ("accuracy",)})
    with pytest.raises(UserError, match=r"jcw .*\['accuracy'\]"):
        find_agent("jcw")(env, Settings(5, 0, None, QUIET))


def test_genomes_ask_for_exactly_one_option():
    space = space_of(decision(), decision("block", (0, 1)))
    actions = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    for action, genome in zip(actions, snap(space, actions), strict=True):
        for each, gene, asked in zip(space.decisions, genome, action, strict=True):
            allowed = np.ones(len(each.options), bool)
            assert each.decode(gene, allowed) == each.decode(asked, allowed)


def test_a_genome_becomes_what_the_budgets_made_of_it(tiny_task):
    env = compression_env(**tiny_task | {"budgets": {"flops": 0.4}})
    watched = Recorded(env)
    find_agent("jcw")(watched, Settings(25, 0, None, QUIET))
    costs = env.problem.costs["flops"](env.problem.space.configure(np.array(watched.values)))
    assert len(costs) == 25 and (costs <= 0.4 * env.problem.original["flops"]).all()


def test_children_are_new_while_there_are_new_ones():
    space, rng = space_of(decision(), decision()), np.random.default_rng(0)
    known = snap(space, rng.uniform(-1, 1, (6, 2)))
    children = offspring(known, 6, known, space, rng)
    rows = {row.tobytes() for row in np.concatenate([known, children])}
    assert len(rows) == len({row.tobytes() for row in known}) + 6
    everything = snap(
        space, np.array([[a, b] for a in (-1, -0.3, 0.3, 1) for b in (-1, -0.3, 0.3, 1)])
    )
    assert offspring(everything, 5, everything, space, rng).shape == (5, 2)


def test_crossover_keeps_what_parents_share_and_their_mean():
    rng = np.random.default_rng(0)
    same = np.full((8, 3), 0.25)
    np.testing.assert_allclose(cross(same, rng), same)
    parents = np.tile([[-0.2], [0.2]], (4000, 1))
    assert abs(cross(parents, rng).mean()) < 0.02
    assert np.abs(cross(parents, rng)).max() > 0.4  # beyond the parents too


def test_mutation_changes_one_gene_on_average():
    genomes = np.zeros((4000, 10))
    changed = mutate(genomes, np.random.default_rng(0)) != 0
    assert 0.9 < changed.sum(axis=1).mean() < 1.1


class Bandit(gym.Env):
    """One decision; its reward is a function of the action."""

    observation_space = gym.spaces.Box(0, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    reward_dim, next_decision = 1, 0

    def __init__(self, kind, reward):
        self.decisions, self._reward = [decision(kind)], reward

    def reset(self, *, seed=None, options=None):
        return np.zeros(1), {}

    def step(self, action):
        return np.zeros(1), np.array([self._reward(float(action[0]))]), True, False, {}


def taught(env, episodes, seed):
    agent = ABCP(Controller(env.decisions, seed), 0.0)
    for _ in range(episodes):
        played = agent.play(env)
        agent.learn(played, float(played.total[0]), QUIET)
    return np.array([agent.play(env).total[0] for _ in range(100)])


@pytest.mark.parametrize("better", [-1.0, 1.0])
def test_abcp_learns_the_better_arm(better):
    rewards = taught(Bandit("block", lambda action: float(action == better)), 200, seed=0)
    assert rewards.mean() > 0.85  # the logits' bounds leave 5 % to the other arm


@pytest.mark.parametrize("best", [-0.6, 0.7])
def test_abcp_learns_a_ratio(best):
    rewards = taught(Bandit("channels", lambda action: -abs(action - best)), 200, seed=0)
    assert rewards.mean() > -0.2  # an untrained one is 0.6 to 0.7 away


def test_abcp_counts_the_decisions_that_are_made_and_no_others(tiny_data):
    torch.manual_seed(0)
    env = compression_env(
        Residual().eval(),
        tiny_data,
        decide=("block", "channels"),
        latency=None,
        objectives=("accuracy", "flops"),
        round_to=1,
        repair="none",
    )
    counts = set()
    for seed in range(6):
        controller = Controller(env.problem.decisions, seed)
        summed, sample = [], controller.sample

        def counting(index, memory, sample=sample, summed=summed):
            sampled, memory = sample(index, memory)
            summed.append(sampled.log_probability.item())
            return sampled, memory

        controller.sample = counting
        played = ABCP(controller, 0.0).play(env)
        assert env.next_decision == len(env.problem.decisions)
        assert played.log_probability.item() == pytest.approx(sum(summed), rel=1e-4)
        counts.add(len(summed))
    assert len(counts) == 2 and max(counts) == len(env.problem.decisions)


def test_abcp_is_saved_and_loaded(tiny_task, tmp_path):
    env = compression_env(**tiny_task)
    agent = find_agent("abcp")(env, Settings(12, 0, None, QUIET))
    agent.save(tmp_path / "agent.zip")
    loaded, again = (
        ABCP.load(tmp_path / "agent.zip", env.problem.decisions, seed=5) for _ in range(2)
    )
    assert loaded.play(env).log_probability.item() == again.play(env).log_probability.item()
    found = loaded.controller.state_dict()
    for name, tensor in agent.controller.state_dict().items():
        assert torch.equal(tensor, found[name]), name
    assert loaded.baseline == agent.baseline


def test_abcp_refuses_an_agent_of_other_decisions(tiny_task, tmp_path):
    env = compression_env(**tiny_task)
    ABCP(Controller(env.problem.decisions, 0), 0.0).save(tmp_path / "agent.zip")
    with pytest.raises(UserError, match="3 decisions.*2"):
        ABCP.load(tmp_path / "agent.zip", env.problem.decisions[:2], seed=0)


def test_exploration_falls_from_episode_to_episode():
    np.random.seed(0)
    noise = DecayingNoise((500,))
    first = noise().std()
    for _ in range(20):
        noise.reset()
    assert noise().std() == pytest.approx(first * 0.95**20, rel=0.1)


MODULE = (
    SPLITS
    + """

def factory():
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)]
    return nn.Sequential(*body, *head).eval()
"""
)


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """The command's arguments for a small network of one's own."""
    name = f"chain_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = ["--network", f"{name}:factory", "--data", f"{name}:splits"]
    return ["two-stage", *own, "--episodes", "6", "--run", str(tmp_path / "run")]


def test_two_stages_from_one_command(chain, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(chain) == 0
    pruned, quantized = (load_strategy(run / f"{name}.json") for name in ("pruned", "quantized"))
    assert pruned.env_id == "TwoStagePrune-VGG16-v0"
    assert {d["kind"] for d in quantized.decisions} == {"weight_bits", "activation_bits"}
    own = chain[1:5]  # --network and --data
    assert quantized.env_kwargs["network"] == f"{own[1]}@{run / 'pruned.safetensors'}"
    assert "Pruned, then quantized" in capsys.readouterr().out
    files = ("pruned.safetensors", "quantized.safetensors")
    before = [load_file(run / name) for name in files]
    assert main(["validate", str(run / "quantized.json"), *own]) == 0
    # The same command finds everything done, and comes to the same.
    lines = (run / "stage-2" / "evaluations.jsonl").read_bytes()
    assert main(chain) == 0
    for tensors, name in zip(before, files, strict=True):
        again = load_file(run / name)
        assert all(np.array_equal(again[key], value) for key, value in tensors.items())
    assert (run / "stage-2" / "evaluations.jsonl").read_bytes() == lines


def test_two_stages_with_a_chosen_network(chain, tmp_path, capsys):
    assert main([*chain, "--pick", "0"]) == 0
    front = load_strategy(tmp_path / "run" / "stage-1" / "front" / "000.json")
    assert load_strategy(tmp_path / "run" / "pruned.json") == front
    # Accuracies of the second stage are those of its start, and of no other, whose files stay.
    config = tmp_path / "run" / "stage-2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"start": "another"}))
    (tmp_path / "run" / "pruned.json").write_text("another's")
    assert main([*chain, "--pick", "0"]) == 2
    assert "other settings (start 'another'" in capsys.readouterr().err
    assert (tmp_path / "run" / "pruned.json").read_text() == "another's"
    assert main([*chain, "--pick", "99"]) == 2
    assert "--pick: expected one of front/" in capsys.readouterr().err
    assert main([*chain, "--episodes", "7"]) == 2
    assert "other settings" in capsys.readouterr().err


def published_shares(env):
    """Return the shares that each decision has within JCW's bounds, by kind and name."""
    space = bounded_space(env.problem)
    return {(d.kind, d.name): d.options / d.original for d in space.decisions}


def test_jcw_has_the_bounds_and_the_grid_of_its_code(tiny_data):
    names = {"decide": ("channels", "density"), "latency": None, "round_to": 1, "repair": "none"}
    env = compression_env(make("residual"), tiny_data, **names)
    shares = published_shares(env)
    least = {key: each[0] for key, each in shares.items()}
    assert least["density", "stem.0"] == 0.8 and least["density", "down.0"] == 0.8
    assert least["density", "inner.0"] == pytest.approx(0.3)
    assert shares["density", "inner.0"] == pytest.approx(np.arange(3, 11) / 10)
    assert least["channels", "stem.0"] == 1.0  # at least 0.9 of 8 channels: x and the sum
    assert shares["channels", "inner.0"] == pytest.approx(np.arange(5, 11) / 10)
    assert least["channels", "down.0"] == 1.0  # joined with the shortcut: 0.9 of 7 channels
    watched = Recorded(env)
    find_agent("jcw:bounds")(watched, Settings(25, 0, None, QUIET))
    for row in watched.values:
        for decision, value in zip(env.problem.decisions, row, strict=True):
            assert (value / decision.original) in shares[decision.kind, decision.name]
    assert len(set(watched.values)) == 25


def test_unknown_variants_are_refused():
    with pytest.raises(UserError, match="unknown variant of jcw 'bound'; did you mean 'bounds'"):
        find_agent("jcw:bound")
    with pytest.raises(UserError, match="unknown reward of amc 'flop'; did you mean 'flops'"):
        find_agent("amc:flop")
