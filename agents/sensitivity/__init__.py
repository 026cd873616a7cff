"""Planning from sensitivities alone: which strategies are worth an evaluation, before any."""
