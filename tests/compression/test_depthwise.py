"""Strided depthwise convolutions computed densely while a network is trained."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prune_gym import models
from prune_gym.compression.depthwise_gradients import fast_gradients


def gradients(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Return the output and the gradients of a sum of its squares, of the image's first."""
    images = images.clone().requires_grad_()
    output = network(images)
    found = torch.autograd.grad(output.square().sum(), [images, *network.parameters()])
    return [output.detach(), *found]


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.sampled_from([1, 2, 3, (1, 2), (2, 1)]),
    padding=st.integers(0, 2),
    bias=st.booleans(),
    mode=st.sampled_from(["zeros", "reflect"]),
)
def test_outputs_and_gradients_are_the_same(size, kernel, stride, padding, bias, mode):
    convolution = nn.Conv2d(
        4, 4, kernel, stride, padding, groups=4, bias=bias, padding_mode=mode
    ).double()
    images = torch.randn(2, 4, *size, dtype=torch.double)
    plain = gradients(convolution, images)
    with fast_gradients(convolution):
        fast = gradients(convolution, images)
    for one, other in zip(plain, fast, strict=True):
        torch.testing.assert_close(one, other)


def test_a_network_is_left_as_it_was():
    network = models.build("mobilenet_v1", 10).eval()
    images, before = torch.randn(2, 3, 32, 32), set(vars(network.features[1][0]))
    with torch.no_grad():
        plain = network(images)
        with pytest.raises(KeyError), fast_gradients(network):
            torch.testing.assert_close(network(images), plain, rtol=1e-3, atol=1e-4)
            raise KeyError  # what goes wrong inside
    assert set(vars(network.features[1][0])) == before
    assert copy.deepcopy(network)(images).shape == (2, 10)
