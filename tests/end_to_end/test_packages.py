"""What is published: a source package with everything that it takes to build, a wheel with everything that it takes to
run, and neither with anything else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import bothways

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.slow


def tracked() -> set[str]:
    """The files that git knows of, as long as they are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


def files_of_the_package() -> set[str]:
    return {name for name in tracked() if name.startswith("src/")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The two packages, built in a copy of what git knows, with the setuptools that is installed."""
    folder, source = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("source")
    for name in tracked():
        if "/" not in name or name.startswith(("src/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    build = (
        f"from setuptools import build_meta as b; print(b.build_sdist({str(folder)!r}), b.build_wheel({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    sdist, wheel = done.stdout.split("\n")[-2].split()
    return folder / sdist, folder / wheel


def test_the_source_package_has_what_it_takes_to_build(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if "egg-info" not in name}
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/bothways/inference/csrc/encoder.inc"} <= names
    files = {name for name in files if name.startswith("src/bothways/")}
    assert files == files_of_the_package()
    assert not [name for name in names if name.startswith("tests")]


def test_the_wheel_has_what_it_takes_to_run(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata = archive.read(f"bothways-{bothways.__version__}.dist-info/METADATA").decode()
        entries = archive.read(f"bothways-{bothways.__version__}.dist-info/entry_points.txt").decode()
    beside = {name for name in names if ".dist-info/" in name}
    kernels = {name for name in names if name.startswith("bothways/_kernels")}  # none without a compiler
    wanted = {name.removeprefix("src/") for name in files_of_the_package()}
    assert names - beside - kernels == wanted
    licences = {name for name in tracked() if name == "LICENSE" or (name.startswith("src/") and "/LICENSE" in name)}
    assert len(licences) == 4
    assert {f"bothways-{bothways.__version__}.dist-info/licenses/{name}" for name in licences} <= beside
    assert "bothways = bothways.cli:main" in entries
    assert f"\nVersion: {bothways.__version__}\n" in metadata
    assert "\nRequires-Python: >=3.10\n" in metadata
    assert built[1].stat().st_size < 30e6
