# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Who imports whom: one way, never in a circle."""

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from conftest import REPOSITORY


def test_contracts_of_pyproject_are_kept() -> None:
    """The method knows nobody, the line needs neither torch nor anomalib, and no import is circular."""
    config = str(REPOSITORY / "pyproject.toml")
    assert lint_imports(config_filename=config, no_cache=True) == EXIT_STATUS_SUCCESS
