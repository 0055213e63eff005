"""Headless Chromium, for tests of pages."""

import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def dumped(page: Path, folder: Path, *flags: str) -> str:
    """The document that a page becomes when its scripts have run; `folder` is for the browser's profile."""
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
        "--allow-file-access-from-files", "--virtual-time-budget=5000", "--dump-dom", *flags, f"file://{page}",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
