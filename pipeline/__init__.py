"""The stages, one module each: `python -m pipeline.STAGE`. dvc.yaml says how they hang together."""
