# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""The line's distribution: one plain command installs it, and it scores where there is neither torch nor anomalib."""

import os
import re
import subprocess
import venv
from pathlib import Path

import pytest

import anomalib_ear
from brightness import brightness_model, photograph, scored
from registration_env import CHECKOUT, build_wheel

RUNTIME = CHECKOUT / "runtime"
# Of all that is installed, pip aside.
MAX_BYTES = 400e6
# Hidden from the installed package, which must not find the checkout's.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout."""
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment in which the distribution is installed, and nothing beside it."""
    root = tmp_path_factory.mktemp("line")
    venv.create(root / "environment", with_pip=True)
    python = root / "environment" / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet")
    reached = run(*pip, "download", "--no-deps", "--dest", root / "reached", "tqdm", folder=root)
    if reached.returncode:
        pytest.skip(f"no package index: {reached.stderr.strip().splitlines()[-1]}")
    done = run(*pip, "install", build_wheel(root / "wheel", RUNTIME), folder=root)
    assert done.returncode == 0, done.stderr
    return python


def test_it_scores_without_torch_and_anomalib(python: Path, tmp_path: Path) -> None:
    """By the command, and in a program of one's own."""
    photograph(tmp_path / "in" / "part.png", 204)
    model = brightness_model(tmp_path)
    missing = (
        "import importlib.util as u; assert not any(u.find_spec(name) for name in ('torch', 'anomalib', 'pandas'))"
    )
    assert run(python, "-c", missing, folder=tmp_path).returncode == 0
    command = (python, "-m", "anomalib_ear.infer")
    done = run(*command, "--model", model, "--input", "in", "--output", "out", folder=tmp_path)
    assert (done.returncode, done.stderr.count("Warning")) == (0, 0), done.stderr
    assert scored(tmp_path / "out") == {"part.png": 204}
    program = "from anomalib_ear.runtime import DeployedModel; print(DeployedModel('model.xml').predict('in/part.png'))"
    done = run(python, "-W", "error", "-c", program, folder=tmp_path)
    assert "is_defective=True" in done.stdout, done.stderr
    shown = run(*command, "--help", folder=tmp_path)
    assert "Score photographs with an exported model." in shown.stdout
    assert "Defaults to the trained threshold" in " ".join(shown.stdout.split())


def test_it_is_small(python: Path) -> None:
    """All that the line needs to have installed."""
    (site_packages,) = python.parents[1].glob("lib/python*/site-packages")
    files = [path for path in site_packages.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files if not path.relative_to(site_packages).parts[0].startswith("pip"))
    assert size < MAX_BYTES, f"{size / 1e6:.0f} MB"


@pytest.mark.parametrize("name", ["Ear", "EarModel", "SurfaceDemo"])
def test_what_it_has_not_is_said(python: Path, name: str, tmp_path: Path) -> None:
    """Whoever wants to train has the wrong distribution."""
    done = run(python, "-c", f"from anomalib_ear import {name}", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {name} comes with anomalib-ear, but")


def test_both_distributions_have_one_version_and_the_same_bounds() -> None:
    """What the line needs is what the whole package needs of these, and the version is written once."""
    whole, line = ((folder / "pyproject.toml").read_text(encoding="utf-8") for folder in (CHECKOUT, RUNTIME))
    needed = set(re.findall(r'"[^"\s]+[>=]=[^"\s]+"', line.partition("\ndependencies")[2].partition("\n\n")[0]))
    assert len(needed) == 7
    assert all(f"    {dependency},\n" in whole for dependency in needed)
    for folder, text in ((CHECKOUT, whole), (RUNTIME, line)):
        assert 'requires-python = ">=3.10,<3.14"' in text
        (version,) = re.findall(r'^\[tool\.hatch\.version\]\npath = "(.*)"$', text, re.MULTILINE)
        assert (folder / version).samefile(anomalib_ear.__file__)
