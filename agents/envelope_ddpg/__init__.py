"""The one-stage envelope DDPG of MCMC."""
