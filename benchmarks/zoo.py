"""How much of public networks can be cut, and whether each cut is exact.

    python benchmarks/zoo.py torchvision:resnet18 timm:efficientnet_b0
    python benchmarks/zoo.py --all

Every network has untrained weights, batch-norm statistics of random images, and a process of its
own, which is ended after ``--seconds`` of processor time. A cut to random widths is compared with
the original whose layers do not read the removed channels, in float64. It is wrong by more than
1e-9, and by ten times what rounding the images does. torchvision and timm are no dependencies of
the package: what is not installed is left out of ``--all``.
"""

import argparse
import importlib.util
import multiprocessing
import resource
import signal
from multiprocessing.connection import Connection
from typing import Any

TORCHVISION = (
    *("alexnet", "vgg11", "vgg11_bn", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d"),
    *("wide_resnet50_2", "squeezenet1_1", "densenet121", "mnasnet0_5", "mobilenet_v2"),
    *("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s"),
    *("regnet_x_400mf", "regnet_y_400mf", "shufflenet_v2_x0_5", "googlenet", "inception_v3"),
    *("convnext_tiny", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t"),
)
TIMM = (
    *("resnet18", "resnext50_32x4d", "res2net50_14w_8s", "regnety_002", "densenet121"),
    *("efficientnet_b0", "mobilenetv3_small_050", "mobilenetv4_conv_small", "convnext_atto"),
    *("convnextv2_atto", "repvgg_a0", "ghostnet_050", "ghostnetv2_100", "hrnet_w18_small", "dla34"),
    *("ese_vovnet19b_dw", "nfnet_l0", "cspresnet50", "cspdarknet53", "darknet17", "mixnet_s"),
    *("mnasnet_050", "rexnet_100", "fbnetc_100", "lcnet_050", "xception41", "selecsls42"),
    *("skresnet18", "ecaresnet26t", "gernet_s", "poolformer_s12", "fastvit_t8", "efficientvit_b0"),
    *("mobilevit_xxs", "mobilevitv2_050", "edgenext_xx_small", "pvt_v2_b0", "convmixer_768_32"),
    *("resnest14d", "tresnet_m", "dpn68", "hgnetv2_b0", "starnet_s1", "repghostnet_050"),
    *("repvit_m0_9", "mobileone_s0", "fasternet_t0", "resnetv2_50", "seresnet18", "vgg11_bn"),
    *("inception_next_atto", "shvit_s1", "inception_v4", "vit_tiny_patch16_224"),
    *("deit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mixer_s32_224", "levit_128s"),
    *("efficientformer_l1", "cait_xxs24_224", "resmlp_12_224", "efficientvit_m0"),
)
FIXED_SIZE = {"vit": 224, "swin": 224, "maxvit": 224, "deit": 224, "mixer": 224, "levit": 224}
FIXED_SIZE |= {
    "cait": 224,
    "resmlp": 224,
    "efficientformer": 224,
    "inception": 96,
    "efficientvit_m": 224,
}


HEADER = """| network | verdict | of the parameters | of the multiply-adds | groups | |
|---|---|---|---|---|---|"""


def main() -> int:
    """Try the networks and print a table of them in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seconds", type=int, default=600, help="for one network")
    options = parser.parse_args()
    wrong = 0
    print(HEADER, flush=True)
    for name in options.names or (every_name() if options.all else []):
        found = in_a_process(name, options.seconds)
        wrong += found["verdict"] == "wrong"
        shares = found.get("shares", " | | ")
        print(f"| `{name}` | {found['verdict']} | {shares} | {found['about']} |", flush=True)
    return int(wrong > 0)


def every_name() -> list[str]:
    """Return the names of all networks whose package is installed."""
    known = {"torchvision": TORCHVISION, "timm": TIMM}
    return [
        f"{package}:{name}"
        for package, names in known.items()
        if importlib.util.find_spec(package)
        for name in names
    ]


def in_a_process(name: str, seconds: int) -> dict[str, Any]:
    """Return the verdict on a network; a process of its own keeps memory and crashes apart."""
    import_once()
    forking = multiprocessing.get_context("fork")
    ours, theirs = forking.Pipe(duplex=False)
    process = forking.Process(target=answer, args=(name, seconds, theirs))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        found = {}
    process.join()
    if found:
        return found
    if process.exitcode == -signal.SIGXCPU:
        return {"verdict": "too slow", "about": f"more than {seconds} s of processor time"}
    return {"verdict": "failed", "about": f"its process ended with {process.exitcode}"}


def answer(name: str, seconds: int, connection: Connection) -> None:
    """Send the verdict on a network, within a limit of processor time."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
    try:
        connection.send(tried(name))
    except Exception as error:  # whatever goes wrong in one network
        connection.send({"verdict": "failed", "about": f"{type(error).__name__}: {error}"})


def import_once() -> None:
    """Import what every network needs before its process is forked."""
    import torch

    import prune_gym.compression.verify  # noqa: F401

    torch.set_num_threads(1)
    declare_operators()
    for package in ("torchvision", "timm"):
        if importlib.util.find_spec(package):
            importlib.import_module(package)


def tried(name: str) -> dict[str, Any]:
    """Trace a network, cut it, and compare."""
    import numpy as np
    import torch

    from prune_gym.compression.verify import check_cut, largest_error
    from prune_gym.errors import UserError
    from prune_gym.graph.explain import explain, reasons
    from prune_gym.graph.trace import trace

    torch.manual_seed(0)
    network, size = built(name)
    images = torch.randn(2, 3, size, size)
    with_statistics(network, images)
    try:
        table = trace(network, (3, size, size))
        if not table.groups:
            return {"verdict": "refused", "about": f"nothing can be cut: {reasons(table)}"}
        check_cut(network, table, images)
    except UserError as error:
        return {"verdict": "refused", "about": str(error)}
    rng = np.random.default_rng(0)
    kept = [
        np.sort(rng.permutation(group.size)[: rng.integers(1, group.size + 1)])
        for group in table.groups
    ]
    error, dtype = largest_error(network, table, kept, images)
    shares = explain(table)
    least = 1e-9 if dtype is torch.float64 else 1e-3
    exact = error < least or error < 10 * of_rounding(network, images.to(dtype))
    return {
        "verdict": "accepted" if exact else "wrong",
        "shares": f"{shares.parameters:.0%} | {shares.multiply_adds:.0%} | {len(table.groups)}",
        "about": f"error {error:.0e}" + (" in float32" if dtype is torch.float32 else ""),
    }


def of_rounding(network: Any, images: Any) -> float:
    """Return how much rounded images change the largest output: much in some untrained networks."""
    import torch
    from torch.utils._pytree import tree_leaves

    network, least = network.to(images.dtype), 4 * torch.finfo(images.dtype).eps
    with torch.no_grad():
        one, other = (tree_leaves(network(images * scale))[0] for scale in (1, 1 + least))
    return float((one - other).abs().max() / one.abs().max())


def built(name: str) -> tuple[Any, int]:
    """Return a network in eval mode, and the height and width of its images."""
    package, _, model = name.partition(":")
    size = next((s for start, s in FIXED_SIZE.items() if model.startswith(start)), 64)
    if package == "torchvision":
        from torchvision import models

        known = models.get_model_builder(model)
        more = {"init_weights": False} if model in ("googlenet", "inception_v3") else {}
        return known(weights=None, **more).eval(), size
    if package == "timm":
        import timm

        return timm.create_model(model, pretrained=False).eval(), size
    from prune_gym import models as own

    return own.build(name, 10).eval(), own.NETWORKS[name].input_shape[1]


def declare_operators() -> None:
    """Declare the operators that torchvision wants, without which it cannot be imported."""
    import torch

    if importlib.util.find_spec("torchvision") and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for operator in OPERATORS:
            library.define(f"{operator}(Tensor x) -> Tensor")
        KEPT.append(library)


OPERATORS = (
    *("roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "nms", "qnms"),
    *("roi_pool", "_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward", "qroi_align"),
    *("deform_conv2d", "_deform_conv2d_backward"),
)
KEPT: list[Any] = []  # a library that is collected takes its operators with it


def with_statistics(network: Any, images: Any) -> None:
    """Give batch-norms the statistics of random images, so that none is the identity."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.training, norm.momentum = True, 1.0
    with torch.no_grad():
        network(images)
    for norm in norms:
        norm.training, norm.momentum = False, 0.1
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1 or float(parameter.abs().max()) < 1e-3:
                parameter.add_(torch.rand_like(parameter).mul_(0.2))


if __name__ == "__main__":
    raise SystemExit(main())
