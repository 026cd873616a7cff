"""The types of layers and functions that tracing and surgery treat alike."""

from typing import Any

from torch import nn

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
# Operations that work on each number alone.
ELEMENTWISE_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid),
    *(nn.SELU, nn.CELU, nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh),
    *(nn.LogSigmoid, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.Threshold, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),
)
ELEMENTWISE = (
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "tanh", "sigmoid"),
    *("selu", "celu", "softplus", "softsign", "hardswish", "hardsigmoid", "hardtanh"),
    *("logsigmoid", "leaky_relu_", "elu_", "hardtanh_", "sigmoid_", "tanh_", "threshold"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout"),
    *("contiguous", "clamp", "clamp_", "clip", "clone", "detach", "to", "float", "type_as"),
    *("neg", "abs", "exp", "sqrt", "rsqrt", "square", "log1p", "pow", "sign", "erf", "type"),
    "stochastic_depth",  # torchvision's
)


def is_of_torch(module: nn.Module, whole: bool = True) -> bool:
    """Return whether PyTorch defines what a module computes.

    Its weights may still be computed (by a parametrization); not so where it is ``whole``.
    """
    kind: Any = type(module)
    forwards = [kind.forward, *([kind._conv_forward] if isinstance(module, Convolution) else [])]
    of_torch = all(getattr(each, "__module__", "").startswith("torch.") for each in forwards)
    return of_torch and not (whole and "forward" in vars(module))
