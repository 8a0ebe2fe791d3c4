# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Documents: their links lead somewhere, what they tell to run exists, and the README stays short."""

import importlib.util
import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest

from conftest import REPOSITORY

FOLDERS = (".", "benchmarks", "benchmarks/results", "docs", "docs/upstream", "runtime", "src/anomalib_ear/**")
DOCUMENTS = sorted({path for folder in FOLDERS for path in REPOSITORY.glob(f"{folder}/*.md")})
PACKAGE = REPOSITORY / "src" / "anomalib_ear"
MAX_README_LINES = 150

every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix()
)


@cache
def prose(document: Path) -> str:
    """Return a document without its blocks of code, in which nothing is a link or a heading."""
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(document: Path) -> list[tuple[str, str]]:
    """Return the file and the anchor of each link that stays in the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    return [(file, anchor) for file, _, anchor in (target.partition("#") for target in targets) if "://" not in file]


@cache
def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ +(.+)$", prose(document), re.MULTILINE):
        kept = (char for char in heading.strip().lower() if char in " -_" or unicodedata.category(char)[0] in "LN")
        found.add("".join(kept).replace(" ", "-"))
    return found


def test_there_are_documents() -> None:
    """The patterns above find them."""
    names = {path.relative_to(REPOSITORY).as_posix() for path in DOCUMENTS}
    assert {"README.md", "docs/method.md", "benchmarks/README.md", "src/anomalib_ear/pretraining/README.md"} <= names


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    """Each file of the repository that a document links to exists, and has the heading that is linked to."""
    for file, anchor in links(document):
        target = (document.parent / file).resolve() if file else document
        assert target.exists(), f"{file} does not exist"
        assert not anchor or anchor in anchors(target), f"{file} has no heading #{anchor}"


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.is_relative_to(PACKAGE)],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_the_wheel_cites_what_it_holds(document: Path) -> None:
    """A document of the package links to nothing outside it."""
    for file, _ in links(document):
        assert (document.parent / file).resolve().is_relative_to(PACKAGE), f"{file} is not in the wheel"


def test_the_code_of_the_wheel_cites_no_page_of_the_repository() -> None:
    """Whoever reads an installed file cannot open the repository's documents, nor its history."""
    cites = re.compile(r"\b(?:benchmarks|configs|docs)/[\w/.-]+|\b\w+\.md\b|\bcommit [0-9a-f]{7}")
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.md")]:
        cited = cites.findall(path.read_text(encoding="utf-8"))
        assert not cited, f"{path.relative_to(REPOSITORY)} cites {', '.join(cited)}"


@every_document
def test_what_a_document_names_exists(document: Path) -> None:
    """Modules that can be run, and files of the repository."""
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"python -m ([\w.]+\w)", text):
        spec = importlib.util.find_spec(name)
        assert spec, f"there is no module {name}"
        assert not spec.submodule_search_locations or importlib.util.find_spec(f"{name}.__main__"), f"{name} cannot run"
    for name in re.findall(r"\b(?:benchmarks|configs|docs)/[\w/]+\.(?:py|yaml|jsonl|md|png)\b", text):
        assert (REPOSITORY / name).exists(), f"{name} does not exist"


def test_the_readme_is_short() -> None:
    """It is read to its end; everything else is in ``docs``."""
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_README_LINES
