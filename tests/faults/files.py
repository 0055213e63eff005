"""Damage to files."""

import random
from collections.abc import Callable
from pathlib import Path


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flip(content: bytes, chance: random.Random) -> bytes:
    place, bit = chance.randrange(len(content)), 1 << chance.randrange(8)
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def empty(content: bytes, chance: random.Random) -> bytes:
    return b""


FLIPPED = "a bit flipped"
KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {"truncated": truncate, FLIPPED: flip, "emptied": empty}


def damage(file: Path, chance: random.Random, kinds: tuple[str, ...] = tuple(KINDS)) -> str:
    """Damage a file, whose other names keep the old content; how, in words."""
    kind = chance.choice(kinds)
    content = KINDS[kind](file.read_bytes(), chance)
    file.unlink()
    file.write_bytes(content)
    return kind
