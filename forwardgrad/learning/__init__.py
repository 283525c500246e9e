"""Learning from a stream: optimizers, the learner, and its checkpoints."""
