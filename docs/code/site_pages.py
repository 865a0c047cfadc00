"""A hook of MkDocs: README.md and the other pages outside docs/ are pages of the site, with links that lead there.

Whatever the repository says once, the site says by the same file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "examples/README.md": "examples.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/ to those of the site."""
    for source, page in PAGES.items():
        text = moved((ROOT / source).read_text("utf-8"), source)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links out of docs/ to the pages that are made of those files."""
    if page.file.src_uri == "command-line.md":
        return _without_references(markdown)
    return _LINK.sub(lambda link: _led(link, "docs/page.md") if link[2].startswith("..") else link[0], markdown)


def _without_references(markdown: str) -> str:
    """The page that typer prints, whose optional words such as `KIND[:MODEL][?OPTION]` are no links to a reference."""
    parts = markdown.split("```")  # outside and inside of code blocks by turns
    parts[::2] = [re.sub(r"\]( ?)\[", r"]\1&#91;", part) for part in parts[::2]]
    return "```".join(parts)


def moved(text: str, source: str) -> str:
    """Return a page's text for the site; a link to a file that is no page of it becomes the file's name as code."""
    return _LINK.sub(lambda link: _led(link, source), text)


def _led(link: re.Match[str], source: str) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
    page = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
    if page is None:
        return link[1] if link[1].startswith("`") else f"`{link[1]}`"
    return f"[{link[1]}]({page}{link[3] or ''})"
