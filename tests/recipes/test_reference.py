"""docs/params.md says what recipes/defaults.yaml says."""

from pathlib import Path

from ruamel.yaml import YAML

from rsa.recipes.reference import reference
from tests.engines.imports import ROOT


def test_the_page_is_current():
    assert (ROOT / "docs/params.md").read_text() == reference(), "run `python -m rsa.recipes.reference > docs/params.md`"


def test_every_comment_and_key_is_on_it():
    page = Path(ROOT / "docs/params.md").read_text()
    lines = (ROOT / "recipes/defaults.yaml").read_text().splitlines()
    comments = [line.partition("# ")[2] for line in lines if not line.startswith("#") and "# " in line]
    assert len(comments) > 150
    for comment in comments:
        assert comment.replace("|", r"\|") in page or f"\n{comment[0].upper()}{comment[1:]}.\n" in page, comment
    for section, values in YAML(typ="safe").load("\n".join(lines)).items():
        assert f"\n## `{section}`\n" in page
        if section not in ("datasets", "methods", "detection", "robustness"):
            assert [key for key in values if f"| `{key}" not in page] == []
