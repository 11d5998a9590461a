"""The documentation site builds without a warning and needs nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_the_site_builds_and_stands_alone(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir"]
    built = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    help_page = (tmp_path / "reference" / "command-line.html").read_text()
    assert "usage: unseen sample" in help_page and "<!-- help" not in help_page
    assert "sample_scenes" in (tmp_path / "reference" / "python.html").read_text()
    # A link to a source file leads to a page that shows it.
    assert "source/unseen/methods/dfm.py.html" in (tmp_path / "dfm.html").read_text()
    source = tmp_path / "source" / "unseen" / "methods" / "dfm.py.html"
    assert "DFMConfig" in source.read_text()
    # What a page loads by itself lies beside it.
    loaded = re.compile(
        r'(?:<script[^>]+src|<link[^>]+rel="stylesheet"[^>]+href)="http'
    )
    for page in tmp_path.rglob("*.html"):
        assert not loaded.search(page.read_text()), page


def test_the_readme_names_both_commands() -> None:
    text = (ROOT / "README.md").read_text()
    targets = (ROOT / "Makefile").read_text()
    for command in ("demo", "test"):
        assert f"    make {command} " in text and f"\n{command}:" in targets
