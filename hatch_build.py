"""Makes the compiled reader of JSON members when the project is built or installed.

The compiler is the `ziglang` wheel, so none has to be on the machine. On other platforms, with OCSF_LAKE_PURE=1, and
when anything goes wrong, the project is built without the library and reads in Python: no installation fails for it.
That is why the wheel is no requirement of the build, which would end without it: it is fetched here if it is not there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

SOURCE = "ocsf_mappers/readers/jsoncolumns.c"
LIBRARY = "ocsf_mappers/readers/_jsoncolumns.so"

COMPILER, SERIES = "ziglang", "0.17"

TARGETS = {
    "macosx_13_0_arm64": "aarch64-macos.13.0",
    "macosx_13_0_x86_64": "x86_64-macos.13.0",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "musllinux_1_1_aarch64": "aarch64-linux-musl",
    "musllinux_1_1_x86_64": "x86_64-linux-musl",
}
"""What wheels are made for: the tag's last part, and the compiler's name for it. One serves every Python. There are
wheels of the compiler for these."""

SECONDS = 300


class CustomBuildHook(BuildHookInterface):
    """Adds the library to a wheel; to install the project editable, it is laid beside its source."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds a wheel, `version` being "standard" or "editable"."""
        found = platform()
        if found is None:
            self.app.display_info("without the compiled reader: JSON is read in Python")
            return
        source, library = Path(self.root, SOURCE), Path(self.root, LIBRARY)
        try:
            if version == "editable":
                make(source, library, TARGETS[found])
                return
            self._folder = tempfile.TemporaryDirectory()
            library = Path(self._folder.name, library.name)
            make(source, library, TARGETS[found])
        except Exception as error:
            self.app.display_warning(f"without the compiled reader, JSON is read in Python: {error}")
            return
        build_data["force_include"][str(library)] = LIBRARY
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{found}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called when the wheel is written."""
        if self._folder is not None:
            self._folder.cleanup()


def platform() -> str | None:
    """The one of `TARGETS` that this machine is; None for another, and when no library is wanted."""
    if os.environ.get("OCSF_LAKE_PURE") == "1":
        return None
    return next((tag.platform for tag in sys_tags() if tag.platform in TARGETS), None)


def make(source: Path, library: Path, target: str) -> None:
    """Compiles the library.

    Args:
        source: The file in C.
        library: What is made; it appears whole or not at all.
        target: The compiler's name of a platform.
    """
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    made = library.with_name(f"{library.name}.{os.getpid()}.so")
    with tempfile.TemporaryDirectory() as folder, compiler() as path:
        run(
            sys.executable, "-m", COMPILER, "cc", "-target", target, "-O2", "-s", "-shared", "-fPIC",
            "-fvisibility=hidden", "-fno-sanitize=all", f'-DSOURCE="{digest}"', "-o", str(made), str(source),
            ZIG_GLOBAL_CACHE_DIR=folder, ZIG_LOCAL_CACHE_DIR=folder, PYTHONPATH=path,
        )  # fmt: skip
    made.replace(library)


@contextmanager
def compiler() -> Iterator[str]:
    """Where Python finds the compiler meanwhile.

    Raises:
        RuntimeError: It cannot be had.
    """
    known = os.environ.get("PYTHONPATH", "")
    try:
        there = metadata.version(COMPILER)
    except metadata.PackageNotFoundError:
        there = ""
    if there.startswith(f"{SERIES}."):
        yield known
        return
    with tempfile.TemporaryDirectory() as folder:
        tried = []
        for installer in installers():
            try:
                run(*installer, "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", folder,
                    f"{COMPILER}=={SERIES}.*", PIP_RETRIES="1", PIP_USER="0")  # fmt: skip
            except (OSError, subprocess.SubprocessError) as error:
                tried.append(str(error))
                continue
            yield f"{folder}{os.pathsep}{known}" if known else folder
            return
    raise RuntimeError(f"no {COMPILER} {SERIES}: {'; '.join(tried) or 'neither pip nor uv is here'}")


def installers() -> Iterator[list[str]]:
    """Commands that may install a wheel: with the settings of whoever builds, other than those of a command line."""
    yield [sys.executable, "-I", "-m", "pip"]  # past the environment of the build, which has none
    for name in (os.environ.get("UV", "uv"), "pip", "pip3"):
        if found := shutil.which(name):
            yield [found, "pip"] if Path(found).stem == "uv" else [found]


def run(*command: str, **variables: str) -> None:
    """Runs a command, and says what it said when it fails."""
    try:
        subprocess.run(
            command, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env={**os.environ, **variables},
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or error.stdout.strip()).rpartition("\n")[2]
        raise subprocess.SubprocessError(f"{command[0]}: {last}") from error
