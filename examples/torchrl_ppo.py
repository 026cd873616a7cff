"""TorchRL's PPO on an environment with discrete actions and one number as the reward.

pip install torchrl
python examples/torchrl_ppo.py
"""

import argparse

import torch
from tensordict.nn import TensorDictModule
from torchrl.envs import ExplorationType, GymEnv, set_exploration_type
from torchrl.modules import MLP, OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import prune_gym  # noqa: F401  registers the environments

ID, DECISIONS = "ChannelPrune-Table-Discrete-Scalar-v0", 5
EPISODES = 32  # between two updates of the policy


def main(arguments: list[str] | None = None) -> None:
    """Train PPO and print the mean return of every batch of episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=30)
    updates = parser.parse_args(arguments).updates

    torch.manual_seed(0)
    env = GymEnv(ID)
    seen, actions = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]
    policy = TensorDictModule(MLP(seen, actions, num_cells=[64, 64]), ["observation"], ["logits"])
    actor = ProbabilisticActor(
        policy,
        spec=env.action_spec,
        in_keys=["logits"],
        distribution_class=OneHotCategorical,
        return_log_prob=True,
    )
    critic = ValueOperator(MLP(seen, 1, num_cells=[64, 64]), in_keys=["observation"])
    # One episode is one pass over the layers, so nothing is discounted.
    advantage = GAE(gamma=1.0, lmbda=1.0, value_network=critic)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01)
    optimizer = torch.optim.Adam(loss.parameters(), lr=2e-3)
    for update in range(1, updates + 1):
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
            batch = torch.stack([env.rollout(DECISIONS, actor) for _ in range(EPISODES)])
        for _ in range(8):
            advantage(batch)
            losses = loss(batch)
            optimizer.zero_grad()
            sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
            optimizer.step()
        returned = batch["next", "reward"].sum(dim=1).mean()
        print(f"{update * EPISODES} episodes: mean return {returned:.3f}")


if __name__ == "__main__":
    main()
