"""Check that nothing which `make install` installs needs a compiler: for CPython 3.10 to 3.13 on x86-64 and arm64.

    .venv/bin/python .ci/wheels.py [EXTRA...]     # demo and dev where none is named; needs Python 3.11

uv resolves the extras for each target without installing anything. A package is sound if its release has a wheel for
the target, or if its source distribution builds into a pure Python wheel without any compiler. Prints a line per target
with the size of the download; exits 1 and names each package for which neither holds, and 69 if uv gets no answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import tomllib
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

PYTHONS = [(3, 10), (3, 11), (3, 12), (3, 13)]
MACHINES = ["x86_64", "aarch64"]
GLIBC = 28  # manylinux_2_28: Debian 11, RHEL 8, Ubuntu 20.10 and whatever came after; torch asks for no less


class Target(NamedTuple):
    """What packages are installed for: an interpreter and a processor, on Linux."""

    python: tuple[int, int]
    machine: str

    def __str__(self) -> str:
        return f"CPython {self.python[0]}.{self.python[1]} {self.machine}"


def resolve(extras: list[str], target: Target, folder: Path) -> list[dict[str, Any]]:
    """The packages that an installer would choose for this target, as pylock.toml (PEP 751) lists them."""
    lock = folder / f"pylock.{target.python[0]}-{target.python[1]}-{target.machine}.toml"
    words = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config", "pyproject.toml"]
    words += [word for extra in extras for word in ("--extra", extra)]
    words += ["--python-version", f"{target.python[0]}.{target.python[1]}"]
    words += ["--python-platform", f"{target.machine}-manylinux_2_{GLIBC}"]
    words += ["--format", "pylock.toml", "--output-file", str(lock)]
    if subprocess.run(words).returncode:  # perhaps the index didn't answer: once more
        subprocess.run(words, check=True)
    packages: list[dict[str, Any]] = tomllib.loads(lock.read_text())["packages"]
    return packages


def tags_of(target: Target) -> dict[Tag, int]:
    """The wheel tags that this target installs, with their rank: 0 is the one that an installer prefers."""
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    platforms = []
    for minor in range(GLIBC, 4, -1):
        platforms.append(f"manylinux_2_{minor}_{target.machine}")
        platforms += [f"{legacy[minor]}_{target.machine}"] if minor in legacy else []
    platforms.append(f"linux_{target.machine}")
    interpreter = f"cp{target.python[0]}{target.python[1]}"
    tags = [
        *cpython_tags(target.python, platforms=platforms),
        *compatible_tags(target.python, interpreter, platforms),
    ]
    return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}


def wheel_bytes(package: dict[str, Any], tags: dict[Tag, int]) -> int | None:
    """The size of the wheel that this target downloads, or None where the release has no wheel for it."""
    fitting = []
    for wheel in package.get("wheels", []):
        name = wheel.get("name") or wheel["url"].rsplit("/", 1)[1].replace("%2B", "+")
        ranks = [tags[tag] for tag in parse_wheel_filename(name)[3] if tag in tags]
        fitting += [(min(ranks), wheel.get("size", 0))] if ranks else []
    return min(fitting)[1] if fitting else None


def builds_without_compiler(requirement: str, folder: Path) -> bool:
    """Whether the source distribution makes a pure Python wheel while every compiler's name leads to `false`."""
    out = folder / requirement
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir"]
    words += ["--no-binary", requirement.partition("==")[0]]  # the tools that build it may come as wheels
    nothing = {name: "/bin/false" for name in ("CC", "CXX", "LD", "FC", "RUSTC", "CARGO")}
    built = subprocess.run([*words, "--wheel-dir", out, requirement], env={**os.environ, **nothing})
    return built.returncode == 0 and any(path.name.endswith("-none-any.whl") for path in out.glob("*.whl"))


def main(extras: list[str]) -> int:
    pure: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        for target in (Target(python, machine) for machine in MACHINES for python in PYTHONS):
            tags = tags_of(target)
            packages = resolve(extras, target, Path(folder))
            sizes = {f"{package['name']}=={package['version']}": wheel_bytes(package, tags) for package in packages}
            lacking = [name for name, size in sizes.items() if size is None]
            for name in lacking:
                if name not in pure:
                    pure[name] = builds_without_compiler(name, Path(folder))
            size = f"{len(sizes)} packages, {sum(size or 0 for size in sizes.values()) / 1e9:.2f} GB to download"
            print(f"{target}: {size}; without a wheel: {', '.join(lacking) or 'none'}", flush=True)
    for name in sorted(pure):
        print(f"{name}: {'pure Python, builds without a compiler' if pure[name] else 'NEEDS A COMPILER'}")
    bad = ", ".join(sorted(name for name, sound in pure.items() if not sound))
    if bad:
        print(f"wheels: expected no package that needs a compiler, found {bad}; move it to an extra of its own")
    return 1 if bad else 0


def note(line: str) -> None:
    """Print a line, and add it to CI's summary if there is one."""
    print(line)
    if summary := os.environ.get("SUMMARY"):
        with open(summary, "a") as stream:
            stream.write(f"{line}\n")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:] or ["demo", "dev"]))
    except subprocess.CalledProcessError as error:
        note(
            f"NOT RUN: wheels: uv could not resolve the extras, with exit code {error.returncode}; its message is above"
        )
        sys.exit(69)
