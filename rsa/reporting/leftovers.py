"""Removal of files in runs/ and scores/ that do not belong to the experiment, such as those of a former method or seed."""

from pathlib import Path

from rsa.params.document import Document
from rsa.reporting.grid import score_files

LEFTOVERS = Path("leftovers")
RUN_FILES = ("encoder.safetensors", "snapshots", "views.png", "run.json", "curve.csv")
PARTIAL = ".partial"  # unfinished output of a running stage, which DVC ignores


def put_aside(p: Document, scores: Path, runs: Path) -> list[Path]:
    """Move every other file to the same place below `leftovers`; returns the files that were moved."""
    cells = [Path(method) / f"s{seed}" for method in p.experiment.methods for seed in p.experiment.seeds]
    kept = {runs / cell / name for cell in cells for name in RUN_FILES}
    kept |= {scores / cell / name for cell in cells for name in (*score_files(p), "representation.csv", "embedding_map")}
    kept |= {path.parent for path in kept if path.parent.name.startswith("finetune_")}
    moved = []
    for top in (scores, runs):
        for file in sorted(top.rglob("*")):
            used = not kept.isdisjoint((file, *file.parents)) or _is_partial(file)
            if not used and (file.is_file() or file.is_symlink()):
                place = LEFTOVERS / file
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
                moved.append(file)
        for folder in sorted(top.rglob("*"), reverse=True):
            if folder.is_dir() and not _is_partial(folder) and not any(folder.iterdir()):
                folder.rmdir()
    return moved


def _is_partial(path: Path) -> bool:
    """Return True for what a running stage is writing; its folder may be empty until the end."""
    return any(part.endswith(PARTIAL) for part in path.parts)
