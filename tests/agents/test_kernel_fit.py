import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor

from prune_gym.agents.bayesian.kernel_fit import fit_kernel, kernel_of, negative_log_likelihood


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    features = rng.random((40, 5))
    return features, np.sin(3 * features[:, 0]) + 0.1 * rng.normal(size=40)


def test_the_likelihood_and_its_gradient_are_those_of_scikit_learn(data):
    process = GaussianProcessRegressor(kernel_of(5), optimizer=None).fit(*data)
    for logarithms in (kernel_of(5).theta, np.array([0.5, -1.0, 0, 1, 2, 3, -3])):
        value, gradient = negative_log_likelihood(logarithms, *data)
        expected, slope = process.log_marginal_likelihood(logarithms, eval_gradient=True)
        assert value == pytest.approx(-expected, rel=1e-9)
        np.testing.assert_allclose(gradient, -slope, rtol=1e-6, atol=1e-8)


def test_the_fitted_kernel_is_more_likely_and_finds_the_feature_that_matters(data):
    start, fitted = kernel_of(5).theta, fit_kernel(kernel_of(5), *data).theta
    assert negative_log_likelihood(fitted, *data)[0] < negative_log_likelihood(start, *data)[0] - 5
    assert fitted[1:-1].argmin() == 0


def test_lengths_stay_near_their_prior_where_the_data_say_nothing(data):
    features, targets = data[0][:3], data[1][:3]
    lengths = np.exp(fit_kernel(kernel_of(5), features, targets).theta[1:-1])
    assert (lengths > 1).all() and (lengths < 10).all()
