"""What the documentation site makes itself while it is built.

Pages link to the source files that they speak of, by relative paths that work in the
repository. Such files are no pages of the site: their links become pages with the
source. The page of the command line is filled with what `--help` prints.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<=\]\()((?:\.\./)+[^)#\s]+)(#[^)\s]*)?(?=\))")
LANGUAGES = {".py": "python", ".yml": "yaml", ".toml": "toml", ".json": "json"}
COMMANDS = re.compile(r"<!-- help: (.*?) -->")


def on_files(files: Files, config) -> Files:
    """Add a page for every source file that some page links to."""
    for page in [file for file in files if file.src_uri.endswith(".md")]:
        folder = posixpath.dirname(f"docs/{page.src_uri}")
        for target, _ in LINK.findall(page.content_string):
            path = posixpath.normpath(posixpath.join(folder, target))
            uri = _source_page(path)
            if not path.startswith("docs/") and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, content=_source(path)))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Turn links to source files into links to their pages, fill in helps."""
    folder = posixpath.dirname(f"docs/{page.file.src_uri}")

    def turn(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        if path.startswith("docs/"):
            return match[0]
        start = posixpath.dirname(page.file.src_uri) or "."
        return posixpath.relpath(_source_page(path), start)

    markdown = LINK.sub(turn, markdown)
    return COMMANDS.sub(lambda match: _help(match[1]), markdown)


def _source_page(path: str) -> str:
    return f"source/{path}" + ("" if path.endswith(".md") else ".md")


def _source(path: str) -> str:
    """A page that shows a file, or lists a folder."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(p.name for p in file.iterdir() if p.suffix in LANGUAGES)
        listing = "\n".join(f"- `{name}`" for name in names)
        return f"# {path}\n\n{listing}\n"
    text = file.read_text()
    if file.suffix == ".md":
        # Its own links lead to places outside of the site: keep their words.
        return re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)
    language = LANGUAGES.get(file.suffix, "text")
    return f"# `{path}`\n\n````{language}\n{text}````\n"


def _help(command: str) -> str:
    """What `unseen COMMAND --help` prints, without its frames."""
    arguments = [sys.executable, "-m", "unseen", *command.split(), "--help"]
    environment = {"COLUMNS": "88", "PATH": "", "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(
        arguments, capture_output=True, text=True, env=environment, check=True
    ).stdout
    wrapped = [textwrap.fill(x, 88) if len(x) > 88 else x for x in printed.splitlines()]
    return "\n".join(["````text", *wrapped, "````"])
