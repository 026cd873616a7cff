"""The baselines and the established libraries' agents: what each of them promises."""

import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from playing import Recorded
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger

from prune_gym.agents import Settings, find_agent
from prune_gym.agents.amc import AMC, TARGETS, EpisodeBuffer, ErrorReward, make
from prune_gym.agents.common.api import Conditioned
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.common.sb3_training import nearest_action, prefill_replay_buffer
from prune_gym.envs.make import compression_env
from prune_gym.envs.wrappers import ScalarReward
from prune_gym.errors import MissingExtraError, UserError
from prune_gym.experiments.benchmark.preferences import proposals

TWO = {"objectives": ("accuracy", "flops"), "repair": "none"}  # quick, the Gaussian process too
RIVALS = ["amc", "nsga2", "optuna:tpe", "optuna:gp", "sb3:SAC", "sb3:PPO", "sb3-conditioned:TD3"]


def flops(env):
    """Return the share of the original's multiply-adds that every finished episode keeps."""
    original = env.unwrapped.problem.original["flops"]
    return [info["flops"] / original for info in env.infos]


def search(name, env, episodes=15, seed=0):
    env = Recorded(env)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained = find_agent(name)(env, Settings(episodes, seed, None, Logger(None, [])))
    return env, trained


def option(decision, action):
    """Return the value that an action asks for."""
    return decision.decode(action, np.ones(len(decision.options), dtype=bool))


@pytest.mark.parametrize("name", RIVALS)
def test_all_start_from_the_same_strategies(name, tiny_task):
    env, _ = search(name, compression_env(**tiny_task | TWO), episodes=20, seed=3)
    assert len(env.actions) == 20
    first = initial_design(20, 3, 3)
    assert len(first) == 2
    asked = [
        [option(d, a) for d, a in zip(env.unwrapped.problem.decisions, row, strict=True)]
        for row in first
    ]
    assert list(map(list, env.values[:2])) == asked


@pytest.mark.parametrize("name", RIVALS)
def test_the_shortest_search_is_its_warm_up(name, tiny_task):
    env, _ = search(name, compression_env(**tiny_task | TWO), episodes=1)
    assert len(env.actions) == 1


@pytest.fixture
def with_blocks(tiny_data):
    from nets import make as make_net

    net = make_net("residual")
    decide = ("block", "channels")
    return compression_env(net, tiny_data, latency=None, decide=decide, round_to=1, **TWO)


@pytest.mark.parametrize("name", RIVALS)
def test_skipped_blocks_shorten_episodes(name, with_blocks):
    env, _ = search(name, with_blocks, episodes=30)
    lengths = {len(episode) for episode in env.actions}
    assert len(env.actions) == 30 and len(lengths) > 1


def test_progress_goes_by_episodes_where_they_are_short(with_blocks):
    _, agent = search("envelope-ddpg", with_blocks, episodes=30)
    assert agent.num_timesteps < 27 * len(with_blocks.problem.decisions)  # blocks were skipped
    assert 0 <= agent._current_progress_remaining < 0.03
    assert agent.action_noise.per_episode == pytest.approx(0.25 * agent.noise[0], rel=0.3)


def test_nsga2_plays_no_strategy_twice_after_the_warm_up(tiny_task):
    env, _ = search("nsga2", compression_env(**tiny_task | {"round_to": 4}), episodes=30)
    first, evolved = env.values[:3], env.values[3:]
    assert len(set(evolved)) == len(evolved) and not set(evolved) & set(first)


def test_nsga2_goes_on_where_nothing_new_is_left(tiny_task):
    coarse = compression_env(**tiny_task | {"round_to": 16, "min_keep": 1.0})
    env, _ = search("nsga2", coarse, episodes=5)
    assert len(env.values) == 5 and len(set(env.values)) == 1


@pytest.mark.parametrize("module", ["evolution.nsga2", "optuna_samplers"])
def test_a_missing_extra_is_named(module, monkeypatch):
    package = {"evolution.nsga2": "pymoo", "optuna_samplers": "optuna"}[module]
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"prune_gym.agents.{module}", raising=False)
    with pytest.raises(MissingExtraError, match=r"prune-gym\[rivals\]"):
        find_agent({"evolution.nsga2": "nsga2", "optuna_samplers": "optuna:tpe"}[module])


@pytest.mark.parametrize(
    ("given", "expected"),
    [("optuna:tp", "Optuna sampler.*'tpe'"), ("optuna", "optuna:tpe"), ("amcc", "mean 'amc'")],
)
def test_unknown_names_get_the_nearest(given, expected):
    with pytest.raises(ValueError, match=expected):
        find_agent(given)


def test_unknown_classes_get_the_nearest():
    for family in ("sb3", "sb3-conditioned"):
        with pytest.raises(ValueError, match="did you mean 'SAC'"):
            find_agent(f"{family}:SACC")


def test_filling_keeps_what_was_played(tiny_task):
    env = Recorded(compression_env(**tiny_task))
    model = SAC("MlpPolicy", ScalarReward(env), seed=0, buffer_size=50)
    strategies = initial_design(40, 3, seed=0)
    prefill_replay_buffer(model, strategies)
    kept = model.replay_buffer
    assert kept.pos == 12 and len(env.actions) == 4
    np.testing.assert_array_equal(kept.actions[:12, 0, 0], strategies.ravel())
    np.testing.assert_array_equal(kept.dones[:12, 0], [0, 0, 1] * 4)
    # The last observation of an episode is its own, not the first one of the next.
    assert (kept.next_observations[2:12:3, 0, 0] == 1).all()
    np.testing.assert_array_equal(kept.observations[1:12:3], kept.next_observations[0:12:3])


@pytest.mark.parametrize(("asked", "choice"), [(-1, 0), (-0.3, 1), (0.0, 2), (0.9, 4), (1, 4)])
def test_discrete_actions_take_the_nearest(asked, choice):
    assert nearest_action(asked, gym.spaces.Discrete(5)) == choice


def test_conditioned_agents_answer_for_preferences(tiny_task, tmp_path):
    env, trained = search("sb3-conditioned:SAC", compression_env(**tiny_task), episodes=20)
    assert isinstance(trained, Conditioned)
    obs, _ = env.reset(seed=0)
    fast, good = (trained.predict(obs, w)[0] for w in ({"flops": 1.0}, {"accuracy": 1.0}))
    assert env.action_space.contains(fast) and fast != good
    with pytest.raises(ValueError, match="did you mean 'flops'"):
        trained.predict(obs, {"flop": 1.0})
    trained.save(tmp_path / "agent.zip")
    loaded = SAC.load(tmp_path / "agent.zip")
    seen = np.append(obs, [0, 1, 0, 0]).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict(seen, deterministic=True)[0], fast)


@pytest.mark.parametrize("name", ["sb3:SAC", "two-stage"])
def test_agents_of_one_preference_are_judged_by_what_they_evaluated(tiny_task, name):
    env, trained = search(name, compression_env(**tiny_task), episodes=20)
    assert trained is not None and not isinstance(trained, Conditioned)
    returns = np.random.default_rng(0).random((20, 4))
    source, proposed = proposals(env.unwrapped, trained, returns, np.eye(4))
    assert source == "archive" and (proposed.diagonal() == returns.max(axis=0)).all()


def test_amc_copies_the_error_to_all_transitions(tiny_task):
    env = ErrorReward(Recorded(compression_env(**tiny_task)))
    agent = make(env, seed=0)
    assert isinstance(agent.replay_buffer, EpisodeBuffer)
    prefill_replay_buffer(agent, initial_design(20, 3, seed=0))
    rewards = agent.replay_buffer.rewards[:6, 0].reshape(2, 3)
    assert (rewards == rewards[:, :1]).all() and (rewards <= 0).all() and (rewards > -1).all()
    assert agent.replay_buffer.pos == 6 and agent.replay_buffer.dones[:6].sum() == 2


@pytest.mark.parametrize("metric", ["flops", "params"])
def test_amc_guarantees_accuracy(metric, tiny_task):
    recorded = Recorded(compression_env(**tiny_task))
    trained = find_agent(f"amc:{metric}")(recorded, Settings(12, 0, None, Logger(None, [])))
    assert isinstance(trained, AMC)
    rewards = trained.replay_buffer.rewards[: trained.replay_buffer.pos, 0].reshape(-1, 3)
    assert len(rewards) >= 10
    for info, paid in zip(recorded.infos, rewards, strict=False):  # the last is not learned from
        expected = -(1 - info["accuracy"]) * np.log(info[metric])
        np.testing.assert_allclose(paid, expected, rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_amc_has_a_wall(share, tiny_task):
    core = compression_env(**tiny_task)
    env = ErrorReward(core)
    env.limit("flops", share)
    least = core.problem.costs["flops"](
        core.problem.space.configure(core.problem.space.lower[None])
    )[0]
    full = core.problem.original["flops"]
    for action in (1.0, 0.4, -1.0):
        env.reset(seed=0)
        terminated = False
        while not terminated:
            _, reward, terminated, _, info = env.step(np.array([action], np.float32))
        assert info["flops"] <= least + share * (full - least) + 1e-6
        assert reward == info["accuracy"] - 1
    assert info["flops"] == least


def test_amc_takes_the_first_cost_that_can_be_kept(tiny_task):
    names = {"latency": "measured", "objectives": ("accuracy", "latency", "flops")}
    env, _ = search("amc", compression_env(**tiny_task | names), episodes=5)
    assert len(flops(env)) == 5
    clocked = compression_env(**tiny_task | names | {"objectives": ("accuracy", "latency")})
    with pytest.raises(UserError, match="amc .*flops"):
        search("amc", clocked, episodes=5)


def test_tpe_seldom_repeats_itself():
    env, _ = search("optuna:tpe", gym.make("ChannelPrune-Table-v0").unwrapped, episodes=60)
    assert len(set(env.values)) > 50


def test_amc_shares_its_episodes_among_budgets_of_its_own(tiny_task):
    env, trained = search("amc", compression_env(**tiny_task), episodes=40)
    assert trained is None and len(flops(env)) == 40
    least = min(flops(env)[:4])  # the warm-up's first strategy is the smallest one
    searched = np.array(flops(env)[4:]).reshape(len(TARGETS), 9)
    limits = least + np.array(TARGETS) * (1 - least)
    assert (searched.max(axis=1) <= limits + 1e-6).all()
    assert (searched.max(axis=1)[1:] > limits[:-1]).any()  # not all below the first wall


def test_amc_under_the_environments_budgets(tiny_task, tmp_path):
    env, trained = search("amc", compression_env(**tiny_task, budgets={"flops": 0.5}), episodes=20)
    assert max(flops(env)) <= 0.5 and isinstance(trained, AMC)
    assert trained.baseline is not None and -1 < trained.baseline < 0
    trained.save(tmp_path / "agent.zip")
    loaded, obs = AMC.load(tmp_path / "agent.zip"), env.reset(seed=0)[0]
    np.testing.assert_array_equal(
        loaded.predict(obs, deterministic=True)[0], trained.predict(obs, deterministic=True)[0]
    )


def test_amc_explores_less_and_less(tiny_task):
    agent = make(ErrorReward(compression_env(**tiny_task)), seed=0)
    agent._last_obs = agent.get_env().reset()
    mean = agent.predict(agent._last_obs, deterministic=True)[0]
    spread = {}
    for episode in (0, 60):
        agent._episode_num = episode
        actions = np.array([agent._sample_action(0)[0] for _ in range(50)])
        assert (np.abs(actions) <= 1).all() and len(np.unique(actions)) > 40
        spread[episode] = np.abs(actions - mean).mean()
    assert spread[60] < 0.2 * spread[0]


def test_amc_learns_which_strategies_are_accurate(tiny_task):
    """Without a wall the best thing to do is to keep everything: R_err knows no cost."""
    env = ErrorReward(compression_env(**tiny_task | {"objectives": ("accuracy",)}))
    agent = make(env, seed=0)
    agent.actor.optimizer.param_groups[0]["lr"] = 3e-3  # the paper's takes hundreds of episodes
    prefill_replay_buffer(agent, initial_design(200, 3, seed=0))
    before = agent.predict(agent.get_env().reset(), deterministic=True)[0]
    agent.learn(1)
    agent.train(100)
    after = agent.predict(agent.get_env().reset(), deterministic=True)[0]
    assert after > before
