"""Self-supervised visual pretraining, compared honestly: the library that the stages in `pipeline/` call.

The names below are imported when they are first used: `import rsa` itself imports nothing, and a stage's fingerprint does not
hold what only notebooks use. `__init__.pyi` has them for type checkers.
"""

import importlib

HOMES = {
    "Encoder": "rsa.library.encoder",
    "load_encoder": "rsa.library.encoder",
    "features": "rsa.library.features",
    "knn": "rsa.library.features",
    "list_images": "rsa.library.features",
    "build": "rsa.library.method",
}


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module 'rsa' has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
