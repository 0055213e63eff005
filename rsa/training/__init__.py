"""Training a method: the loop, its optimiser and learning rate."""
