"""Small compression problems with every kind of decision."""

from nets import make

from prune_gym.envs.make import compression_problem

ALL = ("block", "channels", "density", "weight_bits", "activation_bits")
OBJECTIVES = ("accuracy", "flops", "params", "memory", "energy", "size")
PROBLEMS = {
    "free": ("residual", {}),
    "within budgets": ("residual", {"flops": 0.6, "size": 0.4}),
    "blocks in one another": ("nested", {"memory": 0.7}),
}


def make_problem(name, data):
    network, budgets = PROBLEMS[name]
    return compression_problem(
        make(network),
        data,
        decide=ALL,
        objectives=OBJECTIVES,
        budgets=budgets,
        latency=None,
        round_to=1,
        bits=(1, 2, 4, 8, 32),
    )
