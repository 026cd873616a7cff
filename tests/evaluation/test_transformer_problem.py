"""Transformers as problems: whole strategies are evaluated, validated, written and read back."""

import numpy as np
import pytest
import torch
from playing import constant, play
from torch import nn
from transformers import CUTTABLE, DIM, HEADS, CosineWindowAttention, transformer

from prune_gym import Data, Split, compression_env
from prune_gym.compression.network_file import load_network, save_network


def data():
    rng = np.random.default_rng(0)
    splits = [
        Split(rng.integers(0, 256, (n, 3, 8, 8), np.uint8), np.arange(n) % 4) for n in (96, 32, 32)
    ]
    return Data("own", 4, *splits, (0.5,) * 3, (0.25,) * 3, flip=False)


def encoder():
    return nn.TransformerEncoderLayer(DIM, HEADS, 24, batch_first=True)


class Squares(nn.Module):
    """Swin V2's attention, on the 4x4 tokens of an image."""

    def __init__(self):
        super().__init__()
        self.inner = CosineWindowAttention(2, 1)

    def forward(self, x):
        return self.inner(x.unflatten(1, (4, 4))).flatten(1, 2)


NETS = {"encoder": encoder, "Swin V2": Squares} | {
    name: CUTTABLE[name] for name in ("timm", "nn.MultiheadAttention")
}
DECIDE = (("block", "channels"), ("channels", "weight_bits", "activation_bits"))


@pytest.mark.parametrize("decide", DECIDE)
@pytest.mark.parametrize("name", NETS)
def test_a_strategy_is_evaluated_validated_written_and_read_back(name, decide, tmp_path):
    net = transformer(NETS[name])
    env = compression_env(
        net, data(), latency=None, decide=decide, round_to=1, objectives=("accuracy", "flops")
    )
    problem = env.unwrapped.problem
    heads = [d for d in problem.decisions if d.original == HEADS]
    assert heads and heads[0].options.tolist() == [1, 2, 3, 4]
    env.reset(seed=0)
    done = False
    while not done:
        *_, done, _, info = env.step(np.array([0.1], dtype=np.float32))
    assert problem.validate(info["strategy"]).same_weights
    small = problem.apply(info["strategy"])
    about = {"name": "mine", "num_classes": 4, "input_shape": (3, 8, 8)}
    configuration = problem.configure(info["strategy"])
    save_network(small, tmp_path / "small.safetensors", configuration=configuration, **about)
    again = load_network(tmp_path / "small.safetensors", lambda _: transformer(NETS[name]))
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), small(images))


@pytest.mark.parametrize("name", NETS)
def test_a_network_cut_to_one_head_is_a_problem_again(name):
    given = {"latency": None, "round_to": 1, "objectives": ("accuracy", "flops")}
    first = compression_env(transformer(NETS[name]), data(), min_keep=0.25, **given)
    small = first.problem.apply(play(first, constant(-1))[2][-1]["strategy"])
    again = compression_env(small, data(), **given)
    table = again.problem.evaluator.table
    heads = [table.is_of_heads(group) for group in range(len(table.groups))]
    assert table.full[heads].tolist() == [1]
    info = play(again, constant(0))[2][-1]
    assert info["flops"] < again.problem.original["flops"]
    assert again.problem.validate(info["strategy"]).same_weights
