"""One-stage envelope DDPG: the whole trade-off front in one run.

After "Multi-Constrained Model Compression via One-Stage Envelope RL" (MCMC, TNNLS 2024, doi
10.1109/TNNLS.2024.3353763), whose text and code are not public; the envelope operator and the
homotopy loss are those of Yang, Sun & Narasimhan (NeurIPS 2019), its form for continuous actions
that of QENV_CTN (CAPQL's baseline, ICLR 2023). The agent is a small subclass of SB3's TD3:

- the actor mu(s, w) and the critic Q(s, a, w), a vector, see the preference w beside the state;
- target: y = r + Q'(s', mu'(s', w*), w*), with w* the sampled w' that maximises
  w . Q'(s', mu'(s', w'), w') (the row's own w is among them);
- loss: (1 - lambda) |y - Q|^2 + lambda (w . y - w . Q)^2, lambda rising from 0 to 1 over the run;
- every transition is relabelled with several fresh preferences: the reward vector does not depend
  on w, so all preferences learn from all strategies;
- one stage: ``predict(obs, preference)`` answers for any preference, no adaptation phase.

Departures, and why:

- gamma = 1: an episode is one pass over the layers, and its return is what the front is made of.
- Twin critics, from each the vector whose projection on w is smaller (QENV_CTN): the maximum over
  w' overestimates. No target noise and no delayed actor: DDPG, as in the paper's name.
- The actor's loss has a hinge on its output before tanh (HER, NeurIPS 2017, has the square): a
  saturated actor gets no gradient and answers every preference alike for the rest of the run.
- Exploration is drawn per episode and not only per step (`EpisodeNoise`), because actions of
  independent noise all give strategies of about the same size. The updates that the initial design
  had no data for are made when it ends, all at once.

``search`` explores by that noise alone (``envelope-ddpg``); the agent that
`prune_gym.agents.ehvi_envelope_ddpg.ehvi_envelope_ddpg` makes of it imagines what to evaluate
next (``ehvi-envelope-ddpg``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.noise import VectorizedActionNoise
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings
from prune_gym.agents.common.sb3_training import descend, train_by_episodes
from prune_gym.agents.envelope_ddpg.buffers import VectorReplayBuffer
from prune_gym.agents.envelope_ddpg.noise import EpisodeNoise
from prune_gym.agents.envelope_ddpg.policies import EnvelopePolicy
from prune_gym.envs.wrappers import PreferenceConditioned
from prune_gym.errors import UserError
from prune_gym.objectives.objective import weights_array

# Of the actor's output before tanh: further out the action is the same and no gradient comes back.
SATURATED, SATURATION_PENALTY = 3.0, 0.1


class EnvelopeDDPG(TD3):
    """The agent; it learns on environments wrapped in `PreferenceConditioned`."""

    policy_aliases = {"MlpPolicy": EnvelopePolicy}

    def __init__(
        self,
        policy: str | type[TD3Policy] = EnvelopePolicy,
        env: Any = None,
        *,
        learning_starts: int = 260,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        gradient_steps: int = 2,
        tau: float = 0.01,
        relabelled: int = 4,
        envelope: int = 4,
        homotopy: bool = True,
        noise: tuple[float, float] = (0.3, 0.2),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Make the agent.

        Args:
            policy: `EnvelopePolicy`, or "MlpPolicy", which is that.
            env: an environment (or SB3 VecEnv of such) wrapped in ``PreferenceConditioned``.
            learning_starts: steps before the first update, around a random ratio per episode.
            learning_rate: of Adam, for actor and critics.
            batch_size: transitions an update.
            gradient_steps: updates an environment step.
            tau: of the target networks' moving average.
            relabelled: fresh preferences per transition of a batch; 0: only its episode's own.
            envelope: sampled w' per update over which the target takes the maximum; 0: no maximum.
            homotopy: raise lambda from 0 to 1 over the run, otherwise it stays 0.
            noise: standard deviations of the exploration per episode and per step; both fall
                linearly to a quarter over the run.
            seed: of all randomness.
            **kwargs: SB3's.
        """
        self.relabelled, self.envelope, self.noise = relabelled, envelope, tuple(noise)
        self.homotopy = homotopy
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            learning_starts=learning_starts,
            batch_size=batch_size,
            gradient_steps=gradient_steps,
            tau=tau,
            gamma=1.0,
            buffer_size=kwargs.pop("buffer_size", 100_000),
            replay_buffer_class=VectorReplayBuffer,
            seed=seed,
            **kwargs,
        )

    def _setup_model(self) -> None:
        if self.env is not None:  # loaded without one, the agent has both from its file
            try:
                self.names = self.env.get_attr("names", 0)[0]
                self.concentration = self.env.get_attr("concentration", 0)[0]
            except AttributeError:
                raise UserError(
                    "EnvelopeDDPG needs an environment wrapped in PreferenceConditioned"
                ) from None
        self.replay_buffer_kwargs = {"reward_dim": len(self.names)}
        self.policy_kwargs = (
            {"net_arch": [128, 128], "optimizer_kwargs": {"fused": True}}
            | self.policy_kwargs
            | self.replay_buffer_kwargs
        )
        super()._setup_model()
        assert self.action_space.shape is not None
        self.action_noise = EpisodeNoise(self.action_space.shape, *self.noise)

    def _sample_action(self, learning_starts, action_noise=None, n_envs=1):
        noise = self.action_noise
        each = noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]
        noises = cast(list[EpisodeNoise], each)
        if self.num_timesteps < learning_starts:
            action = np.stack([noise.random_action() for noise in noises])
            return action, action
        left = 0.25 + 0.75 * self._current_progress_remaining
        for noise in noises:
            noise.per_episode, noise.per_step = (left * deviation for deviation in self.noise)
        return super()._sample_action(learning_starts, action_noise, n_envs)

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        preference: Mapping[str, float] | Sequence[float] | None = None,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """Return the action for an observation and any preference.

        Args:
            observation: of the vector environment, with ``preference``; or of the wrapped one,
                which has the preference at its end, without.
            preference: weights over the objectives, by name or in order.
            state: unused (SB3's interface).
            episode_start: unused (SB3's interface).
            deterministic: unused: the actor is deterministic.

        Raises:
            UserError: an unknown objective or a negative weight.
        """
        if preference is not None:
            weights = weights_array(preference, self.names).astype(np.float32)
            observation = np.asarray(observation)
            rows = np.broadcast_to(weights, (*observation.shape[:-1], len(weights)))
            observation = np.concatenate([observation, rows], axis=-1)
        return super().predict(observation, state, episode_start, deterministic)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Update critics and actor ``gradient_steps`` times (equations in the module's text)."""
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        # lambda of the homotopy
        blend = 1 - self._current_progress_remaining if self.homotopy else 0.0
        # Catch up, over all of it, with the updates that the initial design did not have.
        if not self._n_updates:
            assert self.replay_buffer is not None
            gradient_steps *= max(self.replay_buffer.size(), 1)
        pairs = (self.actor_target, self.actor), (self.critic_target, self.critic)
        averaged, learned = (
            [each for network in networks for each in network.parameters()]
            for networks in zip(*pairs, strict=True)
        )
        follow = get_ema_multi_avg_fn(1 - self.tau)
        losses = []
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = self._batch(batch_size)
            w = self._relabelled(batch)
            target = self.envelope_target(batch, w)
            copies = len(w) // batch_size
            state = self._with(_tile(batch.observations, copies), w)
            values = self.critic(state, _tile(batch.actions, copies))
            critic_loss = torch.stack([_loss(target - value, w, blend) for value in values]).sum()
            descend(self.critic.optimizer, critic_loss)
            actor_loss = self._actor_loss(state, w)
            descend(self.actor.optimizer, actor_loss)
            follow(averaged, learned, None)
            losses.append((critic_loss.item(), actor_loss.item()))
        critic_mean, actor_mean = np.mean(losses, axis=0)
        self.logger.record("train/critic_loss", critic_mean)
        self.logger.record("train/actor_loss", actor_mean)
        self.logger.record("train/homotopy_lambda", blend)

    def _batch(self, size: int) -> ReplayBufferSamples:
        """Return the transitions of one update."""
        assert self.replay_buffer is not None
        return self.replay_buffer.sample(size)

    def _relabelled(self, batch: ReplayBufferSamples) -> Tensor:
        """Return the preferences with which a batch is used, ``(batch * copies, k)``."""
        if not self.relabelled:
            return batch.observations[:, -len(self.names) :]
        return self.sample_preferences(len(batch.observations) * self.relabelled)

    def sample_preferences(self, count: int) -> Tensor:
        """Draw preferences from the Dirichlet distribution of the priorities, ``(count, k)``."""
        drawn = np.random.dirichlet(self.concentration, count).astype(np.float32)
        return torch.as_tensor(drawn, device=self.device)

    def _with(self, observations: Tensor, w: Tensor) -> Tensor:
        """Replace the preference at the end of the observations."""
        return torch.cat([observations[:, : -w.shape[1]], w], dim=1)

    def _actor_loss(self, state: Tensor, w: Tensor) -> Tensor:
        raw = self.actor.mu[:-1](state)  # all but the tanh
        q = self.critic.q1_forward(state, torch.tanh(raw))
        saturated = (raw.abs() - SATURATED).relu().square().mean()
        return SATURATION_PENALTY * saturated - (w * q).sum(1).mean()

    @torch.no_grad()
    def envelope_target(self, batch: ReplayBufferSamples, w: Tensor) -> Tensor:
        """Return the envelope target of every transition and relabelled preference."""
        copies, after = len(w) // len(batch.rewards), batch.next_observations
        other_w = self.sample_preferences(self.envelope)
        states = torch.cat(
            [
                self._with(_tile(after, copies), w),
                self._with(
                    after.repeat_interleave(self.envelope, 0), other_w.repeat(len(after), 1)
                ),
            ]
        )
        # Q'_i(s', mu'(s', w), w), (critics, rows, k)
        values = torch.stack(self.critic_target(states, self.actor_target(states)))
        future = _smaller(values[:, : len(w)], w)
        if self.envelope:
            found = self._best(values[:, len(w) :], w)
            better = (found * w).sum(1, keepdim=True) > (future * w).sum(1, keepdim=True)
            future = torch.where(better, found, future)
        going_on = 1 - _tile(batch.dones, copies)
        return _tile(batch.rewards, copies) + going_on * future

    def _best(self, values: Tensor, w: Tensor) -> Tensor:
        """Return Q' of the sampled w' that is best for each of ``w``, shaped like ``w``.

        Args:
            values: for the sampled w' of every transition, ``(critics, size * envelope, k)``.
            w: of every relabelled copy, ``(copies * size, k)``.
        """
        critics, k = len(values), w.shape[1]
        # (critics, size, envelope, k) seen from each of the relabelled preferences of its row.
        values = values.view(critics, -1, 1, self.envelope, k)
        size = values.shape[1]
        seen = w.view(-1, size, k).transpose(0, 1)[None, :, :, None, :]
        smaller = (values * seen).sum(-1).min(0)
        best = smaller.values.max(-1)
        critic = smaller.indices.gather(-1, best.indices[..., None])[..., 0]
        rows = torch.arange(size, device=self.device)[:, None].expand_as(critic)
        return values[critic, rows, 0, best.indices].transpose(0, 1).reshape(-1, k)


def _smaller(values: Tensor, w: Tensor) -> Tensor:
    """Return of each row the critic's vector whose projection on w is smallest, shaped like w."""
    smallest = (values * w).sum(-1).argmin(0)
    return values[smallest, torch.arange(len(w), device=w.device)]


def search(env: gym.Env, settings: Settings) -> EnvelopeDDPG:
    """Learn the front of a vector environment in one run, exploring by noise alone."""
    require_actions(env, gym.spaces.Box, "envelope-ddpg")
    conditioned = PreferenceConditioned(env, settings.priorities)
    agent = EnvelopeDDPG(env=conditioned, learning_starts=0, seed=settings.seed)
    train_by_episodes(agent, settings)
    return agent


def _tile(rows: Tensor, times: int) -> Tensor:
    return rows.repeat(times, 1)


def _loss(error: Tensor, w: Tensor, blend: float) -> Tensor:
    vector, scalar = error.square().sum(1), (w * error).sum(1).square()
    return ((1 - blend) * vector + blend * scalar).mean()
