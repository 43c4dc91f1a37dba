"""The documentation as a site: built without a warning, whole, and readable where it is opened."""

import importlib
import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import chromium, complaints, show

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
PACKAGES = ("data", "encoders", "tasks", "classifiers", "streaming", "evaluation", "callbacks")
SITE = "zensical build -f docs/zensical.toml --strict"


def build(root: Path) -> subprocess.CompletedProcess[str]:
    """The README's command, on a copy of the pages in `root`, beside the package that they document."""
    if not (root / "selfsup").exists():
        (root / "selfsup").symlink_to(PROJECT / "selfsup")
    words = [str(Path(sys.executable).with_name("zensical")), *SITE.split()[1:]]
    return subprocess.run(words, cwd=root, capture_output=True, text=True, check=False, timeout=120)


def copied(root: Path) -> Path:
    return shutil.copytree(DOCS, root / "docs", ignore=shutil.ignore_patterns("site", ".cache"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    pytest.importorskip("zensical", reason="zensical is not installed: pip install 'selfsup[docs]'")
    copied(root)
    built = build(root)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    return root / "docs" / "site"


def test_a_link_that_leads_nowhere_is_a_failure(site: Path, tmp_path: Path) -> None:
    page = copied(tmp_path) / "index.md"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n[gone](gone.md)\n", encoding="utf-8")
    assert build(tmp_path).returncode != 0


def test_every_page_has_one_place_in_the_navigation() -> None:
    listed = re.findall(r'"([\w/]+\.md)"', (DOCS / "zensical.toml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(
        str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if "site" not in path.parts
    )


def public(package: str) -> Iterator[str]:
    """The qualified names of all classes and functions that a package defines and does not hide."""
    root = importlib.import_module(f"selfsup.{package}")
    for module in pkgutil.iter_modules(root.__path__):
        found = importlib.import_module(f"selfsup.{package}.{module.name}")
        for name, value in vars(found).items():
            here = (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == found.__name__
            if here and not name.startswith("_"):
                yield f"{found.__name__}.{name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_all_that_is_public_is_in_the_reference(site: Path, package: str) -> None:
    text = (site / "api" / f"{package}.html").read_text(encoding="utf-8")
    names = list(public(package))
    assert len(names) > 5
    assert [name for name in names if f'id="{name}"' not in text] == []


def test_docstrings_are_read(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "api" / "tasks.html").read_text(encoding="utf-8"))
    assert "is the middle frame of three between the other two?" in text
    assert re.search(r"head_dim\s+int \| None\s+width of a layer that each frame passes", text)


def test_the_site_asks_nothing_of_the_network(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', text)
        assert fetched == [], path.name


def test_pages_open_from_disk(site: Path) -> None:
    with chromium() as driver:
        for name, heading in (("index", "selfsup"), ("which_task", "Which task for my data?")):
            for width in (1280, 390):
                show(driver, site / f"{name}.html", width)
                assert driver.find_element("tag name", "h1").text == heading
                wide = driver.execute_script("return document.documentElement.scrollWidth > window.innerWidth + 1")
                assert not wide, f"{name} at {width} pixels: the page scrolls sideways"
        assert [line for line in complaints(driver) if "SEVERE" in line] == []
