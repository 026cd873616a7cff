"""The main agent: envelope DDPG whose evaluations expected hypervolume improvement chooses."""
