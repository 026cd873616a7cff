"""``prune-gym explain``: what of a network can be cut, what cannot, and why."""

import argparse

from rich.console import Console

from prune_gym.cli.values import input_shapes

HELP = "show what of a network can be cut, what cannot, and why"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("network", metavar="NETWORK", help="a network's name, or package.module:function")
    add(
        "--shape",
        type=input_shapes,
        metavar="CxHxW",
        help="of an image, such as 3x224x224, or the length of a text; of several inputs such as "
        "3x224x224,12,8:float,12:bool",
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Trace the network and print what was found."""
    from torch import nn

    from prune_gym import models
    from prune_gym._utils.plugins import call_named
    from prune_gym.errors import UserError
    from prune_gym.graph.explain import explain
    from prune_gym.graph.input_shapes import InputShapes
    from prune_gym.graph.trace import trace
    from prune_gym.graph.unwrap import unwrap_compiled, unwrapped

    name, shape = options.network, options.shape
    if ":" in name:
        if shape is None:
            raise UserError("--shape: give the shape of an image, such as --shape 3x224x224")
        network = unwrapped(call_named(name, (nn.Module,), "network"))
        unwrap_compiled(network)
    else:
        network = models.build(name, 10)
        shape = shape or models.NETWORKS[name].input_shape
    found = explain(trace(network, shape))
    shown = shape if isinstance(shape, InputShapes) else "x".join(map(str, shape))

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    say(
        f"{name} on {shown}: {found.parameters:.1%} of the parameters and "
        f"{found.multiply_adds:.1%} of the multiply-adds can be cut"
    )
    say(f"\n{len(found.groups)} channel groups")
    for group in found.groups:
        layers = dict.fromkeys(m.module for m in group.members if m.dim == "out")
        say(f"  {group.name:<40}{group.size:>6} channels of {', '.join(layers)}")
    say("\nChannels that cannot be cut" if found.pins else "\nAll channels can be cut")
    for pin in found.pins:
        say(f"  {pin.layer:<40}{pin.channels:>6} channels, by {pin.by}: {pin.why}")
    if found.uncounted:
        say("\nMultiply-adds that no cost counts")
    for operation, count in found.uncounted:
        say(f"  {operation:<40}{count:>14,}")
    return 0
