"""The wheel holds the package and its configuration tree, nothing else, and runs from any directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path, pythonpath: Path | None = None) -> str:
    """Standard output of a command that must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(pythonpath or "")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that what an earlier build left behind cannot slip in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("selfsup", "conf", "tests"):
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_wheel_holds_every_module_and_every_yaml_and_nothing_else(wheel: Path) -> None:
    expected = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "selfsup").rglob("*.py")}
    expected |= {f"selfsup/reporting/page.{kind}" for kind in ("html", "css", "js")}
    expected |= {f"selfsup/{path.relative_to(PROJECT).as_posix()}" for path in (PROJECT / "conf").rglob("*.yaml")}
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    held = {name for name in names if ".dist-info/" not in name}
    assert held == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_metadata_names_the_version_the_licence_and_the_command(wheel: Path) -> None:
    import selfsup

    with zipfile.ZipFile(wheel) as file:
        texts = {Path(name).name: file.read(name).decode() for name in file.namelist() if ".dist-info/" in name}
    assert f"\nVersion: {selfsup.__version__}\n" in texts["METADATA"]
    assert "\nLicense-Expression: Apache-2.0\n" in texts["METADATA"]
    assert "\nRequires-Python: <3.14,>=3.10\n" in texts["METADATA"]
    assert "selfsup = selfsup.__main__:main" in texts["entry_points.txt"]


@pytest.mark.slow
def test_installed_wheel_runs_from_another_directory(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ("--quiet", "--no-deps", "--no-index")
    run(sys.executable, "-m", "pip", "install", *options, "--target", target, wheel, cwd=elsewhere)
    text = run(sys.executable, "-m", "selfsup.train", "--help", cwd=elsewhere, pythonpath=target)
    tasks = sorted(path.stem for path in (PROJECT / "conf" / "task").glob("*.yaml"))
    assert f"task: {', '.join(tasks)}" in text
    assert "shuffle_and_learn" in text
    # The same through the console script; Hydra says where it found its tree.
    text = run(target / "bin" / "selfsup", "train", "--info", "searchpath", cwd=elsewhere, pythonpath=target)
    assert str(target / "selfsup" / "conf") in text
    assert not list(elsewhere.iterdir())  # asking leaves nothing behind
