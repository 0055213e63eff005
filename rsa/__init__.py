"""Self-supervised visual pretraining, compared honestly: the library that the stages in `pipeline/` call."""
