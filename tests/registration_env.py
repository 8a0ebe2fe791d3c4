# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Environments with anomalib-ear installed, layered upon the packages that the running interpreter has."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from forks import ForkServer, Result

CHECKOUT = Path(__file__).parents[1]
LIBRARIES = ("cv2", "jsonargparse", "kornia", "lightning.pytorch", "omegaconf", "pandas", "sklearn", "timm")
HIDDEN = ("ANOMALIB_EAR_", "PYTHON", "VIRTUAL_ENV", "COV_", "PYTEST_")


class LayeredEnv:
    """A virtual environment of its own on top of the running one's packages.

    The lower packages come in by a line of path in a ``.pth`` file: ``site`` runs no ``.pth`` file down there, so an
    anomalib-ear installed in the running environment does not start here, and what the tests see is this install.
    """

    def __init__(self, root: Path) -> None:
        venv.create(root, with_pip=False)
        self.root = root.resolve()
        self.python = self.root / "bin" / "python"
        self.site_packages = next(self.root.glob("lib/python*/site-packages"))
        below = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
        # Named to come last, so that the sources of an editable install precede the layer.
        (self.site_packages / "zz_layer.pth").write_text("\n".join(below) + "\n")
        self._server: ForkServer | None = None

    def install(self, *target: str | Path) -> None:
        """Install without dependencies, whatever version lies in the layer below."""
        self.pip("install", "--ignore-installed", "--no-deps", "--no-index", "--no-build-isolation", *target)

    def pip(self, *args: str | Path) -> None:
        """Run the layer's pip on this environment."""
        result = self.run("-m", "pip", "--disable-pip-version-check", *args)
        assert result.returncode == 0, result.stderr

    def run(self, *args: str | Path, **variables: str) -> Result:
        """Start this environment's Python, with the caller's Python settings hidden from it."""
        completed = subprocess.run(
            [self.python, *args],
            env=_clean_environment() | variables,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Result(completed.returncode, completed.stdout, completed.stderr)

    def fork(self, code: str) -> Result:
        """Run code in a fork of a started interpreter that has torch and the like, and nothing of anomalib, loaded."""
        if self._server is None:
            self._server = ForkServer(self.python, LIBRARIES, _clean_environment(), self.root)
        return self._server.run(code)

    def fork_command(self, *args: str) -> Result:
        """Run the installed ``anomalib`` script with these arguments in a fork."""
        argv = [str(console_script()), *args]
        return self.fork(f"import runpy, sys; sys.argv = {argv!r}; runpy.run_path(sys.argv[0], run_name='__main__')")

    def paths(self) -> set[Path]:
        """List every file and folder of the environment."""
        return set(self.root.rglob("*"))

    def close(self) -> None:
        """End the fork server."""
        if self._server is not None:
            self._server.close()


def build_wheel(folder: Path, project: Path = CHECKOUT) -> Path:
    """Build the wheel of the checkout, or of the line's part of it."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, project], check=True, env=_clean_environment())
    return next(folder.glob("*.whl"))


def console_script() -> Path:
    """Return the ``anomalib`` command as pip installed it with anomalib."""
    return next(Path(file.locate()).resolve() for file in metadata.files("anomalib") or [] if file.name == "anomalib")


def _clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    return kept | {"COLUMNS": "200"}
