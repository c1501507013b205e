"""What leaves this machine for a server: the files of a folder, by the rules by which it would be read here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from modescape.apart import Look
from modescape.cli import main
from modescape.errors import InvalidInput
from modescape.imported.globs import leading_out, read_glob
from modescape.imported.reading import read
from modescape.laboratory import Lab, Laboratory
from modescape.sending import files_below, with_labels
from modescape.settings import Settings


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


def test_what_is_understood_is_told_to_programs_as_the_server_tells_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    rows = (f"{m},{n},{n % 2},{1 - n % 2},{n % 2}" for m in range(2) for n in range(20))
    table.write_text("\n".join(["member,example,label,p_0,p_1", *rows]))
    files = [str(folder / f"run_{i}.npy") for i in range(3)]
    for given in ([str(folder)], [*files, "--labels", str(folder / "y.npy")], [str(table)]):
        assert main(["import", *given, "--look", "--json"]) == 0
        told = capsys.readouterr()
        found = json.loads(told.out)
        assert not told.err
        assert Look.from_json(found).kind == "probs"
        assert [one["what"] for one in found["odd"] if one["level"] == "asked"] == ["recipe"]
        assert len(found["members"]) == (2 if given == [str(table)] else 3)
    np.savez(tmp_path / "unclear.npz", one=np.eye(20, dtype=np.float32), two=np.eye(20), y=np.arange(20) % 4)
    assert main(["import", str(tmp_path / "unclear.npz"), "--look", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [choice["value"] for choice in found["odd"][0]["choices"]] == ["one", "two"]
    assert not found["may"]


def test_links_are_followed_where_they_are_named_and_not_where_they_lie(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    for name in ("run_2.npy", "y.npy"):
        (folder / name).rename(tmp_path / "else" / name)
        (folder / name).symlink_to(tmp_path / "else" / name)
    inside, pattern, labels = str(folder / "run_0.npy"), str(folder / "run_*.npy"), str(folder / "y.npy")
    for named in (pattern, [inside, str(folder / "run_1.npy"), str(folder / "run_2.npy")]):
        assert len(read_glob(named, labels=labels).members) == 3
    for take in (files_below, read):
        with pytest.raises(InvalidInput, match="leads out"):
            take(folder)
    out = {str(folder / name): tmp_path / "else" / name for name in ("run_2.npy", "y.npy")}
    assert leading_out([pattern, inside, labels]) == out
    (folder / "run_2.npy").unlink()
    (folder / "run_2.npy").symlink_to(folder / "run_1.npy")
    assert list(leading_out([pattern])) == []


def test_a_look_at_what_is_unclear_asks_and_is_no_failure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "two.npz", one=np.eye(20, dtype=np.float32), two=np.eye(20), y=np.arange(20) % 4)
    assert main(["import", str(tmp_path / "two.npz"), "--look"]) == 0
    told = capsys.readouterr()
    asked = "Asked: Several arrays could be the members' outputs: which one? (outputs=one: the outputs are one; "
    assert (told.out.startswith(asked), told.err) == (True, "")
    assert main(["import", str(tmp_path / "two.npz")]) == 1
    assert "Several arrays could be" in capsys.readouterr().err
    both = [str(folder / "run_*.npy"), "--member", "run", "--labels", str(folder / "y.npy")]  # one name for all
    assert main(["import", *both, "--look"]) == 0
    assert "what of a path names the member? (member=" in capsys.readouterr().out
    assert main(["import", *both, "--look", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["odd"][0]["what"] == "member"


def test_labels_that_are_sent_beside_a_folder_are_not_put_over_its_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "y.npy").rename(folder / "labels.npy")
    np.save(tmp_path / "other.npy", np.arange(20) % 3)
    for server in ((), ("--server", "http://127.0.0.1:9")):  # where nobody listens: refused before
        assert main(["import", str(folder), "--labels", str(tmp_path / "other.npy"), *server]) == 1
        assert "labels of its own" in capsys.readouterr().err


def test_labels_go_by_their_own_name_among_what_is_sent(folder: Path, tmp_path: Path) -> None:
    files = files_below(folder)
    for name, at in {"truth": "truth.npy", "y": "labels.npy", "validation.labels": "labels.npy"}.items():
        np.save(tmp_path / f"{name}.npy", np.arange(20) % 4)
        assert with_labels(files, tmp_path / f"{name}.npy") == ({**files, at: tmp_path / f"{name}.npy"}, at)
    assert with_labels(files, folder / "y.npy") == (files, "y.npy")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("server", [(), ("--server", "http://127.0.0.1:9")])  # where nobody listens: refused before
def test_a_file_that_is_named_is_a_file_given_once_and_of_a_name_that_can_be_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], server: tuple[str, ...]
) -> None:
    one, labels = str(folder / "run_0.npy"), ("--labels", str(folder / "y.npy"))
    os.mkfifo(pipe := folder / "pipe.npy")
    odd = os.fsdecode(os.fsencode(str(folder)) + b"/m\xff1.npy")
    Path(odd).write_bytes(Path(one).read_bytes())
    np.savez(folder / "run_0.npz", np.load(one))
    a_pipe, network = "it is a pipe, a socket or a device", ("--architecture", "mlp", "--data", "digits")
    for given, what in {
        (one, one, *labels): "run_0.npy: it is given twice",
        (one, str(folder / "run_?.npy"), *labels): "run_0.npy: it is given twice",
        (one, str(pipe), *labels): f"pipe.npy: {a_pipe}",
        (str(pipe), *labels): f"pipe.npy: {a_pipe}",
        (one, str(folder), *labels): "runs: it is a folder",
        (one, "--labels", str(pipe)): f"pipe.npy: {a_pipe}",
        (one, str(folder / "run_1.npy"), "--labels", str(pipe)): f"pipe.npy: {a_pipe}",
        (one, str(folder / "run_1.npy"), "--labels", str(folder)): "runs: it is a folder",
        (odd, *labels): r"it holds a file called 'm\udcff1.npy'",
        (one, odd, *labels): r"it holds a file called 'm\udcff1.npy'",
        (str(folder / "m*.npy"), *labels): r"it holds a file called 'm\udcff1.npy'",
        ("--weights", str(pipe), *network): f"pipe.npy: {a_pipe}",
        ("--weights", str(folder / "m*.npy"), *network): r"it holds a file called 'm\udcff1.npy'",
        ("--weights", one, "--curve", str(pipe), *network): f"pipe.npy: {a_pipe}",
    }.items():
        assert main(["import", *given, *server]) == 1
        assert what in capsys.readouterr().err
    assert main(["import", one, str(folder / "run_0.npz"), *labels, "--look"]) == 0
    assert "runs: 2 members" in capsys.readouterr().out


@pytest.mark.parametrize("server", [(), ("--server", "http://127.0.0.1:9")])
def test_options_that_do_not_go_together_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], server: tuple[str, ...]
) -> None:
    labels = ("--labels", str(folder / "y.npy"))
    (whole := tmp_path / "fold2").mkdir()
    np.save(whole / "test.logits.npy", np.eye(4, dtype=np.float32)[np.arange(20) % 4][None])
    np.savez(tmp_path / "e.npz", **{"test.logits": np.load(whole / "test.logits.npy")})
    many = str(folder / "run_*.npy")
    for place, option in (
        (whole, "--ood"),
        (whole, "--validation"),
        (tmp_path / "e.npz", "--shift"),
        (folder, "--ood"),
    ):
        given = {"--ood": f"svhn={many}", "--validation": f"{many}={folder / 'y.npy'}", "--shift": f"fog/3={many}"}
        assert main(["import", str(place), option, given[option], *labels, *server]) == 1
        said = capsys.readouterr().err
        assert f"{option}: goes with one file a member, and {place.name} is a folder or an archive" in said
        assert "ood/NAME.logits.npy beside test.logits.npy" in said
    assert main(["import", many, *labels, "--outputs", "a", *server]) == 1
    assert "--outputs: does not go with one file a member" in capsys.readouterr().err
    if not server:
        assert main(["import", str(whole), *labels, "--look"]) == 0
        assert "test: 20 test images, with labels" in capsys.readouterr().out
    else:
        assert main(["import", str(whole), *labels, "--experiment", "a", *server]) == 1
        assert "--experiment: is not asked by servers" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_of_a_name_that_is_not_utf8_is_imported_under_a_name_that_can_be_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODESCAPE_HOME", str(tmp_path / "home"))
    place = folder.rename(os.fsdecode(os.fsencode(str(tmp_path)) + b"/r\xff"))
    labels = ("--labels", str(place / "y.npy"))
    for number, given in enumerate(([str(place)], [str(place / "*_?.npy"), *labels])):
        assert main(["import", *given, "--look"]) == 0
        assert "r\\xff: 3 members" in capsys.readouterr().out
        assert main(["import", *given]) == 0
        lab = Lab(Laboratory(Settings(home=tmp_path / "home")), "r-xff" if number == 0 else "r-xff-2")
        assert lab.experiment.name == "r\\xff"


def test_outputs_of_one_name_in_two_files_of_a_folder_are_refused(folder: Path) -> None:
    np.savez(folder / "run_0.npz", np.eye(4, dtype=np.float32)[np.arange(20) % 4])
    with pytest.raises(InvalidInput, match=r"run_0\.npz: run_0\.npy is there for the same outputs"):
        read(folder)


def test_what_the_system_refuses_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("modescape.imported.reading.read", refused)
    assert main(["import", str(folder), "--look"]) == 1
    assert capsys.readouterr().err.strip() == f"modescape: {folder}: Permission denied"
