"""What is installed is what was tried: locks with hashes, images by version, digests as a registry tells them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BESIDE = {"torch", "torchvision"}
LOCKS = {"all": ("server", "worker"), "dev": ("server", "worker", "dev"), "server": ("server", "postgres")}


def _locked(name: str) -> list[tuple[Requirement, list[str]]]:
    """Each entry of a lock with its hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8").strip())
    found = []
    for entry in entries:
        said, *hashes = (line.strip().removesuffix("\\").strip() for line in entry.splitlines())
        found.append((Requirement(said), hashes))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_the_project_asks_for_with_hashes(name: str) -> None:
    locked = _locked(name)
    for one, hashes in locked:
        assert re.fullmatch(r"==[^,*]+", str(one.specifier)), one
        assert hashes, one
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", digest) for digest in hashes), one
    asked = [Requirement(text) for text in PROJECT["dependencies"]]
    for extra in LOCKS[name]:
        asked += [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]
    for one in asked:
        if one.name in BESIDE or one.name == "modescape":
            continue
        versions = [next(iter(had.specifier)).version for had, _ in locked if had.name == one.name]
        assert versions, f"{one.name} is in no line of locks/{name}.txt: make lock"
        for version in versions:
            assert one.specifier.contains(version), f"{one} is {version} in locks/{name}.txt: make lock"


def test_torch_is_locked_by_version_alone_and_no_lock_names_a_host() -> None:
    torch = [Requirement(line) for line in (ROOT / "locks" / "torch.txt").read_text(encoding="utf-8").split()]
    assert {one.name for one in torch} == BESIDE
    for one in torch:
        asked = next(
            Requirement(text) for text in PROJECT["optional-dependencies"]["worker"] if text.startswith(one.name + ">")
        )
        assert asked.specifier.contains(next(iter(one.specifier)).version)
    for name in LOCKS:
        assert not [one for one, _ in _locked(name) if re.match(r"torch$|torchvision$|triton$|nvidia-|cuda-", one.name)]
    for file in (ROOT / "locks").glob("*.txt"):
        text = file.read_text(encoding="utf-8")
        assert "://" not in text, file.name
        assert not re.search(r"^\s*-(?!-hash=)", text, flags=re.M), file.name


IMAGE = re.compile(r"^(?:FROM|\s*image:)\s+(\S+:\S+)", flags=re.M)


def test_images_are_named_by_exact_versions() -> None:
    named = [
        image for file in ("Dockerfile", "docker-compose.yml") for image in IMAGE.findall((ROOT / file).read_text())
    ]
    assert len(named) == 4
    for image in named:
        assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?-[a-z-]+(@sha256:[0-9a-f]{64})?", image), image


@pytest.mark.parametrize("program", ["docker", "skopeo", None])
def test_digests_are_those_that_a_registry_tells(tmp_path: Path, program: str | None) -> None:
    """The registry is played by the program that asks one."""
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "sed", "sort", "expr"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    digest = "sha256:" + "5" * 64
    if program:
        fake = tmp_path / "bin" / program
        fake.write_text(f'#!/bin/sh\ncase "$*" in *gone*) exit 1;; *version) exit 0;; *) echo {digest};; esac\n')
        fake.chmod(0o755)
    files = [tmp_path / name for name in ("Dockerfile", "compose.yml")]
    said = (
        "FROM python:3.11.14-slim AS base\nFROM base AS api\n",
        f"  image: redis:7.4.6@sha256:{'1' * 64}\n  image: db:1\n",
    )
    for file, text in zip(files, said, strict=True):
        file.write_text(text)

    def pin() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", ROOT / "locks" / "pin_images.sh", *files], text=True, capture_output=True,
                              env={"PATH": str(tmp_path / "bin")})  # fmt: skip

    ended = pin()
    if program is None:
        assert (ended.returncode, [file.read_text() for file in files]) == (1, list(said))
        assert "skopeo" in ended.stdout
        return
    assert ended.returncode == 0, ended.stderr
    pinned = [file.read_text() for file in files]
    assert pinned == [f"FROM python:3.11.14-slim@{digest} AS base\nFROM base AS api\n",
                      f"  image: redis:7.4.6@{digest}\n  image: db:1@{digest}\n"]  # fmt: skip
    assert pin().returncode == 0
    assert [file.read_text() for file in files] == pinned, "written a second time they are the same"
    files[0].write_text("FROM gone:1\n")
    assert pin().returncode == 1
    assert files[0].read_text() == "FROM gone:1\n"
