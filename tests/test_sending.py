"""What leaves this machine for a server: the files of a folder, by the rules by which it would be read here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from modescape.cli import main
from modescape.errors import InvalidInput
from modescape.imported.reading import read
from modescape.sending import files_below


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "runs"
    place.mkdir()
    for i in range(3):
        np.save(place / f"run_{i}.npy", np.eye(4, dtype=np.float32)[np.arange(20) % 4])
    np.save(place / "y.npy", np.arange(20) % 4)
    (place / ".hidden").write_text("x")
    (place / ".git").mkdir()
    (place / ".git" / "config").write_text("x")
    return place


def test_what_is_sent_is_what_would_be_read(folder: Path) -> None:
    assert list(files_below(folder)) == ["run_0.npy", "run_1.npy", "run_2.npy", "y.npy"]
    assert files_below(folder / "y.npy") == {"y.npy": folder / "y.npy"}
    with pytest.raises(InvalidInput, match="there is nothing at"):
        files_below(folder / "gone")


@pytest.mark.parametrize("odd", ["a link out", "a link to itself", "a pipe", "a folder like an array", "no UTF-8"])
def test_what_is_refused_here_is_not_sent_either(folder: Path, tmp_path: Path, odd: str) -> None:
    place = folder / "run_3.npy"
    if odd == "a link out":
        (tmp_path / "secret").write_text("secret")
        place.symlink_to(tmp_path / "secret")
    elif odd == "a link to itself":
        place.symlink_to(place)
    elif odd == "a pipe":
        os.mkfifo(place)
    elif odd == "a folder like an array":
        place.mkdir()
    else:
        Path(os.fsdecode(os.fsencode(str(folder)) + b"/run_\xff.npy")).write_bytes(b"x")
    said = {"a link out": "leads out", "a link to itself": "leads nowhere", "a pipe": "a pipe",
            "a folder like an array": "it is a folder", "no UTF-8": "called"}[odd]  # fmt: skip
    for take in (files_below, read):
        with pytest.raises(InvalidInput, match=said):
            take(folder)


def test_files_that_a_shell_named_are_a_member_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(folder / f"run_{i}.npy") for i in range(3)]
    assert main(["import", *files, "--labels", str(folder / "y.npy"), "--look"]) == 0
    assert "runs: 3 members" in capsys.readouterr().out
    assert main(["import", files[0], str(folder / "run_9.npy"), "--labels", str(folder / "y.npy"), "--look"]) == 1
    assert "run_9.npy: there is no file of that name" in capsys.readouterr().err


def test_what_the_system_refuses_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("modescape.imported.reading.read", refused)
    assert main(["import", str(folder), "--look"]) == 1
    assert capsys.readouterr().err.strip() == f"modescape: {folder}: Permission denied"
