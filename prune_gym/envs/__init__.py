"""The Gymnasium side: episode, observation, actions, wrappers and the factory."""
