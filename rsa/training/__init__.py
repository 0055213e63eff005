"""Training: the loop, optimisers, schedules, checkpoints and the launch of several processes."""
