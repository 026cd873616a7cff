"""The most probable parameters of a Gaussian process's kernel.

The likelihood is scikit-learn's. Its gradient there takes an array of (strategies, strategies,
parameters); here it is a product of matrices, which takes a twentieth of the time.
"""

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

JITTER = 1e-10  # on the diagonal of the covariance, as scikit-learn adds
# Of the kernel before anything is known: its deviation, and its length along a feature. Features
# mostly span 0 to 1.
DEVIATION, LENGTH = 1.0, 3.0


def kernel_of(features: int) -> Kernel:
    """Return the kernel before anything is known: Matern 5/2 with a length per feature, and noise.

    Its parameters are, in this order, the scale, the lengths and the noise.
    """
    matern = Matern(np.full(features, LENGTH), (0.02, 1e3), nu=2.5)
    scale = ConstantKernel(DEVIATION**2, (1e-3, 1e3))
    return scale * matern + WhiteKernel(1e-4, (1e-7, 1e-1))


def fit_kernel(kernel: Kernel, features: np.ndarray, targets: np.ndarray) -> Kernel:
    """Return the kernel with its most probable parameters.

    A few strategies say little about many lengths: by likelihood alone the model concludes that
    most decisions do not matter and is far too sure of what it has not seen. So lengths have a
    prior, log-normal around ``LENGTH`` (as in Hvarfner, Hellsten & Nardi, ICML 2024), and the scale
    has one around ``DEVIATION``: the first strategies are like each other and lie near the curve.

    Args:
        kernel: of :func:`kernel_of`; the search begins at its parameters.
        features: ``(n, features)``.
        targets: ``(n,)``.
    """
    lengths = features.shape[1]
    expected = np.log(np.append(DEVIATION**2, np.full(lengths, LENGTH)))
    deviations = np.append(0.5, np.ones(lengths))

    def loss(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = negative_log_likelihood(logarithms, features, targets)
        away = (logarithms[:-1] - expected) / deviations
        gradient[:-1] += away / deviations
        return value + away @ away / 2, gradient

    found = minimize(loss, kernel.theta, jac=True, bounds=kernel.bounds, method="L-BFGS-B")
    return kernel.clone_with_theta(found.x)


def negative_log_likelihood(
    logarithms: np.ndarray, features: np.ndarray, targets: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return minus the log-likelihood, and its gradient by the logarithms of the parameters.

    Args:
        logarithms: of the scale, the lengths and the noise, ``(features + 2,)``.
        features: ``(n, features)``.
        targets: ``(n,)``.
    """
    scale, *lengths, noise = np.exp(logarithms)
    scaled = features / lengths
    distances = np.sqrt(5) * cdist(scaled, scaled)
    decay = np.exp(-distances)
    covariance = scale * (1 + distances + distances**2 / 3) * decay
    by_scale = covariance.copy()
    covariance[np.diag_indices_from(covariance)] += noise + JITTER
    try:
        factor = cholesky(covariance, lower=True, check_finite=False), True
    except np.linalg.LinAlgError:  # impossible parameters
        return np.inf, np.zeros_like(logarithms)
    solved = cho_solve(factor, targets, check_finite=False)
    inverse = cho_solve(factor, np.eye(len(targets)), check_finite=False)
    value = targets @ solved / 2 + np.log(np.diag(factor[0])).sum()
    value += len(targets) / 2 * np.log(2 * np.pi)
    slope = inverse - np.outer(solved, solved)  # twice the gradient by the covariance
    # A length's is the sum over pairs of ``pull`` times their squared distance in the feature.
    pull = slope * decay * (1 + distances) * (5 / 3 * scale)
    by_lengths = pull.sum(axis=0) @ scaled**2 - (scaled * (pull @ scaled)).sum(axis=0)
    ends = (slope * by_scale).sum() / 2, noise * np.trace(slope) / 2
    return value, np.concatenate([ends[:1], by_lengths, ends[1:]])
