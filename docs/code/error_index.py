"""Find the errors that the packages raise, and print docs/errors.md: every message under the section that explains it.

    python docs/code/error_index.py > docs/errors.md        # `make docs`

The code is parsed and not imported. What a message fills in is shown as `…`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from error_families import family_of  # type: ignore[import-not-found,unused-ignore]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("teacher_cache", "distill", "pipelines")
GAP = "…"
REPAIR = 'run "armada cache verify --repair"'  # how the messages about damaged files end
YIELDING = ("pipelines/run/checks",)  # modules whose functions yield the messages that one place raises
HEAD = """# Every error

The messages that `armada` ends with, each under the section of [troubleshooting](troubleshooting.md) that says its
cause and the command that mends it. `…` stands for what the message names. The page is printed by `make docs`.
"""


class Raised(NamedTuple):
    """A place that makes an error: the module, the error's class, and the message with `…` for what it fills in."""

    module: str
    error: str
    message: str


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT).with_suffix("")), ast.parse(path.read_text("utf-8"))


def error_classes() -> dict[str, int]:
    """Return the exit code of each class of errors for users, by its name."""
    codes = {"ArmadaError": 2}
    classes = [node for _, tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    grown = True
    while grown:  # a class may be defined in a file before that of its base
        grown = False
        for node in classes:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in codes]
            if bases and node.name not in codes:
                codes[node.name] = _own_code(node) or codes[bases[0]]
                grown = True
    return codes


def _own_code(node: ast.ClassDef) -> int | None:
    for line in node.body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "exit_code":
            return int(ast.literal_eval(line.value))
    return None


def _texts(node: ast.expr, names: dict[str, list[ast.expr]], depth: int = 0) -> list[str]:
    """The texts that an expression may be; one gap for what is not known before the program runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        texts = [""]
        for part in node.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            known = _texts(inner, names, depth + 1)
            texts = [text + (known[0] if len(known) == 1 else GAP) for text in texts]
        return texts
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [a + b for a in _texts(node.left, names, depth) for b in _texts(node.right, names, depth)]
    if isinstance(node, ast.IfExp):
        return _texts(node.body, names, depth) + _texts(node.orelse, names, depth)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "repair_hint":
        return [REPAIR]
    if isinstance(node, ast.Name) and depth < 3 and names.get(node.id):
        return [text for value in names[node.id] for text in _texts(value, names, depth + 1)]
    return [GAP]


def _assigned(scope: ast.AST) -> dict[str, list[ast.expr]]:
    names: dict[str, list[ast.expr]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            names.setdefault(node.targets[0].id, []).append(node.value)
    return names


def raised() -> list[Raised]:
    """Return all places that make an error for users, and the faults that cards and study files are found to have."""
    codes, found = error_classes(), []
    for module, tree in _trees():
        for call, scope in _calls(tree):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            is_fault = name == "ValueError" and module.startswith(("distill/cards/", "pipelines/study/"))
            if (name in codes or is_fault) and call.args:
                names = _assigned(scope) if scope else {}
                found += [Raised(module, name, text) for text in _messages(name, call, names)]
        if module in YIELDING:
            yields = [node.value for node in ast.walk(tree) if isinstance(node, ast.Yield) and node.value]
            found += [Raised(module, "ArmadaError", text) for value in yields for text in _texts(value, {})]
    return found


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, ast.AST]]:
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner: dict[int, ast.AST] = {}
    for scope in scopes:  # outer ones come first, so that the innermost one stays
        inner.update({id(node): scope for node in ast.walk(scope)})
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, inner.get(id(node), tree)


def _messages(name: str, call: ast.Call, names: dict[str, list[ast.expr]]) -> list[str]:
    if name == "MissingPackageError":
        package = _texts(call.args[0], names)[0]
        return [f"{GAP} needs the package {package}: pip install {GAP}"]
    lines = [text.split("\n")[0] for text in _texts(call.args[0], names)]
    return [re.sub(rf"{GAP}(?:{GAP})+", GAP, line).strip() for line in lines]


def page(found: list[Raised]) -> str:
    """Return docs/errors.md."""
    sections: dict[str, set[str]] = {}
    for one in found:
        if re.search(r"\w{3}", one.message):  # the rest passes on what another place says
            heading = family_of(one.error, one.module) or "No section"
            sections.setdefault(heading, set()).add(one.message)
    parts = [HEAD]
    for heading in sorted(sections):
        anchor = re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
        parts.append(f"\n## {heading}\n\n[Causes and commands](troubleshooting.md#{anchor})\n\n")
        parts += [f"- {_code(message)}\n" for message in sorted(sections[heading], key=str.lower)]
    return "".join(parts)


def _code(message: str) -> str:
    return f"`` {message} ``" if "`" in message else f"`{message}`"


if __name__ == "__main__":
    print(page(raised()), end="")
