"""README.md, the pages of docs/ and that of examples/, and the code in them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def blocks(language):
    """Return the code blocks of a language on all pages."""
    return [
        block for page in PAGES for block in re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]


def python_block(word):
    """Return the only Python block that has this word."""
    (found,) = [block for block in blocks("python") if word in block]
    return found
