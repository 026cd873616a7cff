"""Rollouts without evaluation, and the choice of what to evaluate next."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from playing import Recorded
from scipy.stats import norm, spearmanr
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from prune_gym.agents import Settings, find_agent
from prune_gym.agents.bayesian.acquisition import Acquisition
from prune_gym.agents.bayesian.surrogate import AccuracyModel, from_log_odds, log_odds
from prune_gym.agents.ehvi_envelope_ddpg.distillation import Archive, imitate
from prune_gym.agents.ehvi_envelope_ddpg.ehvi_envelope_ddpg import EHVIEnvelopeDDPG
from prune_gym.agents.sensitivity.outlook import energy_lost
from prune_gym.agents.sensitivity.sensitivity import planned
from prune_gym.envs.make import compression_env
from prune_gym.envs.rollouts import rollout
from prune_gym.envs.wrappers import PreferenceConditioned
from prune_gym.errors import UserError
from prune_gym.experiments.benchmark.preferences import preference_grid, proposals
from prune_gym.objectives.pareto import hypervolume
from prune_gym.search_space import Decision, SearchSpace
from prune_gym.search_space.strategy import strategy_from_dict

ID = "ChannelPrune-Table-v0"


@pytest.fixture(scope="module")
def table():
    """The environment, the values of all strategies and their accuracies."""
    env = gym.make(ID).unwrapped
    values = env.strategies()
    column = [objective.name for objective in env.objectives].index("accuracy")
    return env, values, env.returns(values)[:, column]


def test_rolled_out_episodes_are_the_real_ones_without_evaluation(tiny_task):
    env = compression_env(**tiny_task, budgets={"flops": 0.6})
    env.problem.evaluator.cache.clear()
    rng = np.random.default_rng(0)
    played = rng.uniform(-1, 1, (8, len(env.problem.decisions)))
    step = np.zeros(8, int)

    def act(observations, episodes):
        actions = played[episodes, step[episodes]]
        step[episodes] += 1
        return actions[:, None]

    rolled_out = rollout(env.problem, act, 8)
    values = rolled_out.values
    assert not env.problem.evaluator.cache
    for row, actions in zip(values, played, strict=True):
        env.reset()
        for action in actions:
            *_, info = env.step(np.array([action], np.float32))
        assert [each["value"] for each in info["strategy"]["decisions"]] == list(row)
    assert env.problem.feasible(values).all()
    saved = np.array([rolled_out.rewards[rolled_out.episode == e].sum(axis=0) for e in range(8)])
    np.testing.assert_allclose(saved, env.problem.savings(values), atol=1e-6)
    order = [rolled_out.decision[rolled_out.episode == e].tolist() for e in range(8)]
    assert order == [list(range(len(env.problem.decisions)))] * 8
    assert rolled_out.ended.sum() == 8 and rolled_out.observations.dtype == np.float32


def test_savings_are_the_returns_but_for_accuracy(table):
    env, values, accuracies = table
    returns = env.problem.savings(values[::97])
    returns[:, 0] = accuracies[::97]
    np.testing.assert_allclose(returns, env.returns(values[::97]), atol=1e-12)


def test_the_model_predicts_strategies_that_it_has_not_seen(table):
    env, values, accuracies = table
    order = np.random.default_rng(0).permutation(len(values))
    seen, others = order[:100], order[100:1100]
    model = AccuracyModel(env.problem.space, chance=0.1)
    model.fit(values[seen], accuracies[seen])
    mean, deviation = model.predict(values[others])
    error = from_log_odds(mean) - accuracies[others]
    assert np.sqrt((error**2).mean()) < 0.5 * accuracies[others].std()
    within = np.abs(mean - log_odds(accuracies[others])) < 2 * deviation
    assert 0.5 < within.mean()
    close, sure = model.predict(values[seen])
    np.testing.assert_allclose(from_log_odds(close), accuracies[seen], atol=0.05)
    assert sure.mean() < deviation.mean()


def test_few_strategies_of_many_decisions_make_nobody_sure():
    """Thirty strategies cannot say which of sixty numbers matter; the model has to know that."""
    rng = np.random.default_rng(0)
    options = np.arange(1.0, 17)
    decisions = tuple(
        Decision("channels", f"layer{i}", 16, options, options, (i,), i, share * (1 - options / 16))
        for i, share in enumerate(rng.uniform(0.02, 0.3, 30))
    )
    matters = rng.uniform(0, 1, 30) ** 3

    def accuracies(values):
        lost = np.stack(
            [d.sensitivity[values[:, i].astype(int) - 1] for i, d in enumerate(decisions)]
        )
        return from_log_odds(3 - 4 * matters @ lost - 2 * np.sqrt(lost[-1]))

    def strategies(number, spread):  # as those of a warm-up: an overall ratio, and noise around it
        ratio = rng.uniform(0, 1, (number, 1))
        noise = spread * rng.normal(size=(number, len(decisions)))
        return np.clip(np.round(16 * (ratio + noise)), 1, 16)

    seen, others = strategies(30, 0.1), strategies(1000, 0.3)
    model = AccuracyModel(SearchSpace(None, decisions), chance=0.0)
    model.fit(seen, accuracies(seen))
    mean, deviation = model.predict(others)
    surprise = (mean - log_odds(accuracies(others))) / deviation
    assert np.sqrt((surprise**2).mean()) < 1.5


@pytest.mark.parametrize("few", [1, 3])
def test_before_it_has_learned_much_the_model_trusts_sensitivities(table, few):
    """The less energy is lost the better, at first; random strategies are ranked by that."""
    env, values, accuracies = table
    model, space = AccuracyModel(env.problem.space, chance=0.1), env.problem.space
    seen = [len(values) - 1, len(values) // 3, len(values) // 2][:few]
    model.fit(values[seen], accuracies[seen])
    drawn = np.random.default_rng(0).permutation(len(values))[:500]
    mean, _ = model.predict(values[drawn])
    assert spearmanr(mean, -energy_lost(space, values[drawn]))[0] > 0.95
    assert spearmanr(mean, accuracies[drawn])[0] > 0.93


def test_log_odds_of_certain_accuracies_are_finite():
    accuracies = np.array([0.0, 0.1, 0.5, 0.97, 1.0])
    odds = log_odds(accuracies)
    assert np.isfinite(odds).all() and odds[2] == 0 and (np.diff(odds) > 0).all()
    np.testing.assert_allclose(from_log_odds(odds), accuracies, atol=1e-12)
    assert from_log_odds(np.array([-50.0, 50.0])).tolist() == [0, 1]


def test_what_is_chosen_is_new_within_the_budgets_and_promises_most(table):
    _, values, accuracies = table
    env = gym.make(ID, budgets={"flops": 0.5}).unwrapped
    within = env.problem.feasible(values)
    values, accuracies = values[within], accuracies[within]
    acquisition = Acquisition(env.problem, seed=0)
    seen = np.random.default_rng(1).permutation(len(values))[:40]
    acquisition.observe(values[seen], accuracies[seen])
    returns = env.returns(values[seen])
    gains = {}
    for _ in range(5):
        chosen = acquisition.suggest(values[:3])
        assert env.problem.feasible(chosen[None]).all()
        assert not (acquisition.values == chosen).all(axis=1).any()
        found = env.returns(chosen[None])
        gains[len(returns)] = hypervolume(
            np.concatenate([returns, found]), env.problem.reference_point
        )
        returns = np.concatenate([returns, found])
        acquisition.observe(chosen[None], found[:, 0])
    before = hypervolume(env.returns(values[seen]), env.problem.reference_point)
    random = env.returns(values[np.random.default_rng(2).permutation(len(values))[:5]])
    by_chance = hypervolume(
        np.concatenate([env.returns(values[seen]), random]), env.problem.reference_point
    )
    assert hypervolume(returns, env.problem.reference_point) - before > by_chance - before


def test_the_original_is_known_where_budgets_forbid_it(table):
    """Otherwise nothing says how good a network is of which nothing is lost."""
    _, values, accuracies = table
    env = gym.make(ID, budgets={"flops": 0.3}).unwrapped
    within = np.flatnonzero(env.problem.feasible(values))
    seen = np.random.default_rng(0).choice(within, 30, replace=False)
    acquisition = Acquisition(env.problem, seed=0)
    acquisition.observe(values[seen], accuracies[seen])
    full = env.problem.space.upper[None]
    original = env.problem.original["accuracy"]
    assert acquisition.predict(full)[0] == pytest.approx(original, abs=0.01)
    assert len(acquisition.values) == 30  # it was not played
    assert env.problem.feasible(acquisition.suggest(full)[None]).all()


def test_a_small_space_can_be_exhausted(tiny_task):
    """With nothing new left to evaluate, an old strategy is played again."""
    env = compression_env(**tiny_task, min_keep=1.0)
    acquisition = Acquisition(env.problem, seed=0)
    only = env.problem.space.upper[None]
    acquisition.observe(only, np.array([0.5]))
    assert (acquisition.suggest(only) == only[0]).all()


def test_the_agent_learns_from_python_and_goes_on(tiny_task, tmp_path):
    env = PreferenceConditioned(compression_env(**tiny_task))
    agent = EHVIEnvelopeDDPG(env=env, learning_starts=0, seed=0).learn(9)
    assert agent.acquisition.accuracies.shape == (2,)  # before the third of three episodes
    agent.save(tmp_path / "agent.zip")
    again = EHVIEnvelopeDDPG.load(tmp_path / "agent.zip", env=env)
    assert not hasattr(again, "acquisition")  # it holds the search's samples and problem
    assert again.learn(6).predict(env.unwrapped.reset()[0], {"flops": 1.0})[0].shape == (1,)


@pytest.mark.ci
@pytest.mark.parametrize("agent", ["ehvi", "ehvi-envelope-ddpg"])
def test_a_search_begins_with_planned_strategies_and_beats_them(agent):
    env = Recorded(gym.make(ID))
    find_agent(agent)(env, Settings(20, 0, None, Logger(None, [])))
    problem = env.unwrapped.problem
    values = np.array(env.values)
    plans = planned(problem, 20, seed=0)
    assert (values[:3] == plans[:3]).all() and len(np.unique(values, axis=0)) == 20
    found, known = (
        hypervolume(problem.evaluate(each), problem.reference_point) for each in (values, plans)
    )
    assert found > known


@pytest.mark.ci
@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
def test_several_environments_play_different_strategies(kind):
    env = kind([lambda: PreferenceConditioned(gym.make(ID))] * 3)
    agent = EHVIEnvelopeDDPG(env=env, seed=0, learning_starts=15, batch_size=33)
    agent.learn(60)
    env.close()
    records = agent.replay_buffer.finished[3:]
    played = {tuple(strategy_from_dict(r["strategy"]).values.values()) for r in records}
    assert len(played) == len(records) == 9


@pytest.fixture(scope="module")
def searched():
    """An environment, and what the agent has learned and evaluated there."""
    env = gym.make(ID)
    trained = find_agent("ehvi-envelope-ddpg")(env, Settings(60, 0, None, Logger(None, [])))
    problem = env.unwrapped.problem
    infos = trained.replay_buffer.finished
    values = np.array([problem.values_of(info["strategy"]) for info in infos])
    return env.unwrapped, trained, Archive(values, env.unwrapped.returns(values))


@pytest.mark.ci
def test_the_policy_proposes_what_the_search_has_found(searched):
    env, trained, archive = searched
    grid = preference_grid(3)
    best = (archive.returns @ grid.T).max(axis=0)
    _, proposed = proposals(env, trained, archive.returns, grid)
    lacking = best - (proposed * grid).sum(axis=1)
    assert lacking.mean() < 0.004


@pytest.mark.ci
def test_the_policy_answers_within_budgets_that_the_search_did_not_have(searched):
    """Actions that are only moved into the budgets lose about 0.3 of accuracy."""
    _, trained, archive = searched
    lacking = []
    for budgets in ({"flops": 0.2}, {"flops": 0.4}, {"memory": 0.3}, {"flops": 0.5, "memory": 0.5}):
        env = gym.make(ID, budgets=budgets).unwrapped
        kept = env.problem.feasible(archive.values)
        _, answer = proposals(env, trained, archive.returns, np.array([[1.0, 0, 0]]))
        lacking.append(archive.returns[kept, 0].max() - answer[0, 0])
    assert np.mean(lacking) < 0.12


@pytest.mark.ci
def test_tchebycheff_answers_lie_in_hollows_too(searched):
    env, trained, archive = searched
    grid, reference = preference_grid(3), env.problem.reference_point
    _, linear = proposals(env, trained, archive.returns, grid)
    actor = {name: value.clone() for name, value in trained.actor.state_dict().items()}
    imitate(trained, env.problem, archive, trained.sample_preferences, 1200, "tchebycheff")
    _, spread = proposals(env, trained, archive.returns, grid)
    trained.actor.load_state_dict(actor)
    assert hypervolume(spread, reference) > hypervolume(linear, reference)


@pytest.mark.parametrize("slower", [False, True])
def test_strategies_that_cost_more_than_the_original_are_learned_from(slower):
    """Conversions between int8 and float can take longer than int8 saves."""
    latency = {"latency": "intel-xeon-int8", "objectives": ("accuracy", "latency")}
    env = gym.make("Quantize-ResNet20-v0", decide=("weight_bits",), bits=(8, 32), **latency)
    problem, rng = env.unwrapped.problem, np.random.default_rng(3)
    values = np.stack([rng.choice(d.options, 40) for d in problem.decisions], 1).astype(float)
    returns = problem.savings(values)
    returns[:, 0] = rng.random(len(values))
    assert returns[:, 1].min() < 0
    kept = returns[:, 1] < (0 if slower else 1)
    agent = EHVIEnvelopeDDPG(env=PreferenceConditioned(env), seed=0)
    before = agent.actor.mu[0].weight.clone()
    archive = Archive(values[kept], returns[kept])
    imitate(agent, problem, archive, agent.sample_preferences, updates=40)
    assert not torch.equal(agent.actor.mu[0].weight, before)


@pytest.mark.ci
def test_the_variant_with_tchebycheff_runs_by_name():
    search = find_agent("ehvi-envelope-ddpg:tchebycheff")
    assert (
        search(gym.make(ID), Settings(4, 0, None, Logger(None, []))).scalarization == "tchebycheff"
    )
    with pytest.raises(UserError, match="tchebycheff"):
        find_agent("ehvi-envelope-ddpg:chebyshev")


@pytest.mark.ci
def test_priorities_say_where_to_look():
    def mean(priorities):
        env = Recorded(gym.make(ID))
        find_agent("ehvi-envelope-ddpg")(env, Settings(40, 1, priorities, Logger(None, [])))
        own = env.infos[4:]
        return [np.mean([info[name] for info in own]) for name in ("accuracy", "flops")]

    accurate, small = (
        mean({"accuracy": 0.95, "flops": 0.05}),
        mean({"accuracy": 0.05, "flops": 0.95}),
    )
    assert accurate[0] > small[0] + 0.1 and small[1] < 0.7 * accurate[1]


def test_the_expected_utility_gain_is_that_of_sampling(table):
    env, values, accuracies = table
    preferences = np.random.default_rng(0).dirichlet(np.ones(3), 16)
    acquisition = Acquisition(env.problem, 0, preferences)
    known = np.random.default_rng(1).choice(len(values), 25, replace=False)
    acquisition.observe(values[known], accuracies[known])
    fresh, best = (
        values[::400],
        (acquisition.returns(values[known], accuracies[known]) @ preferences.T).max(0),
    )
    found = acquisition.utility_gain(fresh, best)
    mean, deviation = acquisition.model.predict(fresh)
    drawn = np.random.default_rng(2).normal(size=(4000, 1)) * deviation + mean
    returns = np.repeat(env.problem.savings(fresh)[None], len(drawn), axis=0)
    returns[:, :, 0] = from_log_odds(drawn)
    expected = np.maximum(returns @ preferences.T - best, 0).mean(axis=(0, 2))
    scale = expected.max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=0.1)


def test_the_expected_hypervolume_gain_counts_the_samples_that_may_be_dominated(table):
    env, values, accuracies = table
    acquisition = Acquisition(env.problem, 0)
    acquisition.observe(values[::40], accuracies[::40])
    fresh = values[7::400]
    samples = acquisition.reachable_samples(fresh)
    assert (np.diff(samples[:, 0]) >= 0).all()
    mean, deviation = acquisition.model.predict(fresh)
    probability = norm.cdf((mean[:, None] - log_odds(samples[:, 0])) / deviation[:, None])
    saves = (samples[:, 1:] < env.problem.savings(fresh)[:, None, 1:]).all(axis=2)
    expected = (saves * probability).sum(axis=1)
    found = acquisition.hypervolume_gain(fresh, samples)
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.05)


@pytest.mark.ci
def test_what_is_compared_is_reachable_samples(table):
    env, values, accuracies = table
    acquisition = Acquisition(env.problem, 0)
    acquisition.observe(values[::40], accuracies[::40])
    pool = values[::7]
    near = acquisition.reachable_samples(pool)
    mean, deviation = acquisition.model.predict(pool)
    hopes = env.problem.savings(pool)
    hopes[:, 0] = from_log_odds(mean + 3 * deviation)
    known = acquisition.returns(values[::40], accuracies[::40])
    assert len(near) > 100
    assert all((point < hopes).all(axis=1).any() for point in near)
    assert not any((point <= known).all(axis=1).any() for point in near)


def test_costs_that_are_measured_are_not_rolled_out(tiny_task, monkeypatch):
    env = compression_env(
        **tiny_task | {"latency": "measured", "objectives": ("accuracy", "flops")}
    )
    monkeypatch.setattr(
        type(env.problem.costs["latency"]), "__call__", None
    )  # it would time candidates
    found = rollout(env.problem, lambda seen, _: np.zeros((len(seen), 1)), 2)
    assert found.values.shape == (2, 3)
