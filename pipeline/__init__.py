"""The stages, one module each: `python -m pipeline.STAGE`. dvc.yaml says how they hang together."""

import os

if "FORK_SERVER" in os.environ:
    from pipeline.hand_over import hand_over

    hand_over()
