"""Where networks run: devices by name, and that nothing is left on the processor by mistake.

There may be no accelerator where tests run. PyTorch's "meta" device stands for one: it computes
shapes alone, and its tensors meet others nowhere.
"""

import contextlib

import gymnasium as gym
import numpy as np
import pytest
import torch
from nets import ZOO, make
from playing import constant, play
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from prune_gym._utils.device import find_device, on_device
from prune_gym.compression.calibration import calibrate
from prune_gym.compression.original import Original
from prune_gym.compression.repair import REPAIRS, cut_and_repair
from prune_gym.datasets.normalize import normalize
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.trace import trace

META = torch.device("meta")
IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ABSENT = {
    "cuda": torch.cuda.is_available(),
    "mps": torch.backends.mps.is_available(),
}


class OneDevice(TorchFunctionMode):
    """Refuses operations on tensors of two devices, as an accelerator does.

    A tensor of one number may come from the processor.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [each for each in tree_leaves([args, kwargs]) if isinstance(each, torch.Tensor)]
        devices = {each.device.type for each in given if each.ndim}
        assert len(devices) < 2, f"{func} of tensors on {devices}"
        return func(*args, **kwargs)


def test_a_tensor_that_is_left_on_the_processor_is_noticed():
    with pytest.raises(AssertionError, match=r"tensors on .*'cpu'"), OneDevice():
        torch.zeros(2, device=META) + torch.ones(2)


@pytest.mark.parametrize(
    ("name", "repair"),
    [
        *(("residual", repair) for repair in REPAIRS),
        *((name, "least_squares") for name in ("flattened", "grouped", "padded shortcut")),
    ],
)
def test_candidates_are_made_and_repaired_on_the_device_of_the_original(name, repair, monkeypatch):
    net = make(name)
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, IMAGES)
    kept = [np.sort(order[: max(len(order) // 2, 1)]) for order in calibration.orders]
    here = cut_and_repair(Original(net, table, calibration, IMAGES), kept, repair)
    elsewhere = Original(net, table, calibration, IMAGES, META)
    # The meta device has no autocast.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    with OneDevice():
        there = cut_and_repair(elsewhere, kept, repair)
    state, expected = there.state_dict(), here.state_dict()
    assert {key: each.shape for key, each in state.items()} == {
        key: each.shape for key, each in expected.items()
    }
    assert {each.device for each in state.values()} == {META}
    assert next(net.parameters()).device.type == "cpu"


def test_a_network_that_is_on_the_device_is_not_copied():
    net = make(next(iter(ZOO)))
    assert on_device(net, torch.device("cpu")) is net
    there = on_device(net, META)
    assert {each.device for each in there.parameters()} == {META} and there is not net


@pytest.mark.parametrize("name", [name for name, is_there in ABSENT.items() if not is_there])
def test_a_device_that_is_not_there_is_refused(name, tiny_task):
    with pytest.raises(UserError, match=name):
        compression_env(**tiny_task, device=name)


def test_a_strategy_does_not_name_the_device():
    env = gym.make("ChannelPrune-Table-v0", device="cpu", round_to=8)
    strategy = play(env, constant(0.2))[2][-1]["strategy"]
    assert env.spec.kwargs["device"] == "cpu"
    assert strategy["env_kwargs"]["round_to"] == 8 and "device" not in strategy["env_kwargs"]


def test_an_unknown_device_is_refused(tiny_task):
    with pytest.raises(UserError, match="'gpu'.* auto, cpu, cuda, mps"):
        compression_env(**tiny_task, device="gpu")


def test_auto_takes_the_fastest_device_that_there_is():
    there = [name for name, is_there in ABSENT.items() if is_there]
    assert find_device("auto").type == [*there, "cpu"][0] and find_device("cpu").type == "cpu"


def test_candidates_are_scored_on_the_device(tiny, monkeypatch):
    """As far as outputs: they have no values on the meta device."""
    here = tiny.problem.evaluator
    parts = (here.network, here.table, here.data, here.calibration, here.pixels)
    there = Evaluator(*parts, device=META)
    original = there.original.network  # a copy that is moved
    images = normalize(here.data.search.images[:4], here.data, META)
    with OneDevice():
        fast = there.fast(original)
        outputs = fast(images.to(next(fast.parameters()).dtype))
    assert outputs.device == META and outputs.shape == (4, 4)
