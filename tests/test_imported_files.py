"""Files from elsewhere that are not what they should be: each is refused in words that name it, before memory is
spent."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modescape.errors import InvalidInput
from modescape.imported.digest import set_digest
from modescape.imported.door import examine
from modescape.imported.ensemble import Ensemble
from modescape.imported.reading import read

MEMBERS, EXAMPLES, CLASSES = 3, 40, 4


def outputs(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).normal(size=(MEMBERS, EXAMPLES, CLASSES)).astype(dtype)


def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, EXAMPLES)


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(text: str, *, version: bytes = b"\x01\x00", body: bytes = b"") -> bytes:
    """An .npy file whose header is that text, whatever it says."""
    line = text.encode("latin1")
    line += b" " * (-(len(line) + 11) % 64) + b"\n"
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(line))
    return b"\x93NUMPY" + version + size + line + body


def folder(at: Path, files: Mapping[str, bytes | None] | None = None) -> Path:
    """A whole ensemble in which some files are others (None: not there)."""
    content = {"test.logits.npy": npy(outputs()), "test.labels.npy": npy(labels()), **(files or {})}
    for name, data in content.items():
        if data is not None:
            (at / name).parent.mkdir(parents=True, exist_ok=True)
            (at / name).write_bytes(data)
    return at


def archive(path: Path, *, packed: int = zipfile.ZIP_STORED, **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w", packed) as file:
        file.writestr("test.logits.npy", npy(outputs()))
        file.writestr("test.labels.npy", npy(labels()))
        for name, data in more.items():
            file.writestr(name, data)
    return path


def manifest(**said: Any) -> bytes:
    return json.dumps({"schema": 1, "kind": "logits", **said}).encode()


def tensors(text: bytes, body: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + body


Make = Callable[[Path], Path]


def logits_are(data: bytes) -> Make:
    return lambda at: folder(at, {"test.logits.npy": data})


def zip_holds(name: str, data: bytes = b"x") -> Make:
    return lambda at: archive(at / "e.zip", **{name: data})


def file_is(name: str, data: bytes) -> Make:
    def make(at: Path) -> Path:
        (at / name).write_bytes(data)
        return at / name

    return make


def cut(at: Path) -> Path:
    path = archive(at / "e.npz")
    path.write_bytes(path.read_bytes()[:-300])
    return path


def changed_inside(at: Path) -> Path:
    """A byte of the numbers is another than its sum says."""
    path = archive(at / "e.npz")
    data = bytearray(path.read_bytes())
    data[data.index(b"\x93NUMPY") + 400] ^= 0xFF
    path.write_bytes(bytes(data))
    return path


def lying_over_each_other(at: Path) -> Path:
    """Two entries of one directory share one file's bytes, as in archives made to unpack to far more than they are."""
    path = at / "e.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", np.random.default_rng(0).bytes(100_000))
        first = file.getinfo("a.npy")
        for number in range(4):
            other = zipfile.ZipInfo(f"b{number}.npy")
            other.header_offset, other.CRC = first.header_offset, first.CRC
            other.compress_type = first.compress_type
            other.file_size, other.compress_size = first.file_size, first.compress_size
            file.filelist.append(other)
            file.NameToInfo[other.filename] = other
    return path


def bomb(at: Path) -> Path:
    """Two GiB of zeros in 2 MB."""
    path = at / "e.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("test.logits.npy", "w", force_zip64=True) as entry:
            entry.write(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4194304, 64), }"))
            for _ in range(128):
                entry.write(bytes(1 << 24))
        file.writestr("test.labels.npy", npy(labels()))
    return path


def encrypted(at: Path) -> Path:
    path = archive(at / "e.zip")
    data = bytearray(path.read_bytes())
    at_entry = data.index(b"PK\x01\x02")
    data[at_entry + 8] |= 1
    path.write_bytes(bytes(data))
    return path


def linked_out(at: Path) -> Path:
    secret = at / "secret.npy"
    secret.write_bytes(npy(outputs()))
    inside = folder(at / "ensemble", {"test.logits.npy": None})
    (inside / "test.logits.npy").symlink_to(secret)
    return inside


def folder_linked_out(at: Path) -> Path:
    inside = folder(at / "ensemble")
    (inside / "ood").symlink_to("/etc")
    return inside


def link_in_archive(at: Path) -> Path:
    path = archive(at / "e.zip")
    with zipfile.ZipFile(path, "a") as file:
        entry = zipfile.ZipInfo("ood/svhn.logits.npy")
        entry.create_system, entry.external_attr = 3, 0o120777 << 16
        file.writestr(entry, "/etc/passwd")
    return path


def twice(at: Path) -> Path:
    path = archive(at / "e.zip")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("test.labels.npy", npy(labels()))
    return path


def linked_to_itself(at: Path) -> Path:
    folder(at)
    (at / "loop.npy").symlink_to("loop.npy")
    return at


def no_characters() -> bytes:
    """Texts of which one has a code point beyond Unicode's last."""
    texts = np.arange(EXAMPLES).astype("U3")
    texts.view(np.uint32)[0] = 0x7FFFFFFF
    return npy(texts)


def other_case(files: Mapping[str, bytes | None]) -> Make:
    return lambda at: folder(at, files)


MOVED = npy(np.zeros((3, 2, 40, 4), "f4"))
ROW = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 40, 4), }"
REFUSED: dict[str, tuple[Make, str]] = {
    # an .npy file
    "empty file": (logits_are(b""), r"test\.logits\.npy: it is empty, 0 bytes"),
    "truncated numbers": (logits_are(npy(outputs())[:-7]), r"test\.logits\.npy: its header promises 1,920 bytes"),
    "truncated header": (logits_are(npy(outputs())[:40]), r"test\.logits\.npy: its header cannot be read"),
    "numbers too many": (logits_are(npy(outputs()) + b"1234"), r"promises 1,920 bytes .* 1,924 are there"),
    "wrong magic": (logits_are(b"\x93NUMPI" + npy(outputs())[6:]), r"it is no \.npy file"),
    "text": (logits_are(b"0.1 0.2 0.7\n"), r"it is no \.npy file"),
    "HDF5": (logits_are(b"\x89HDF\r\n\x1a\n" + bytes(50)), r"it is an HDF5 file"),
    "archive called npy": (logits_are(b"PK\x03\x04" + bytes(50)), r"it is an archive"),
    "unknown version": (logits_are(header(ROW, version=b"\x09\x00")), r"its version of \.npy is \(9, 0\)"),
    "header of no dictionary": (logits_are(header("[1, 2, 3]")), r"its header cannot be read"),
    "header that is a program": (logits_are(header("__import__('os').abort()")), r"its header cannot be read"),
    "header that is a sum": (
        logits_are(header(ROW.replace("3,", "3 + 4,"))),
        r"its header cannot be read \([a-z ]+on line 1\)",
    ),
    "header of a megabyte": (logits_are(header(ROW + " " * 1_000_000, version=b"\x02\x00")), r"header cannot be read"),
    "header without end": (logits_are(header("(" * 5000)), r"its header cannot be read"),
    "a length below 0": (logits_are(header(ROW.replace("3,", "-3,"))), r"a length below 0"),
    "a header of exabytes": (logits_are(header(ROW.replace("40", str(10**18)))), r"at most 64 GiB"),
    "a header of a terabyte": (logits_are(header(ROW.replace("40", str(1 << 36)))), r"at most 64 GiB"),
    "objects": (logits_are(npy(np.array([{"a": 1}], object), allow_pickle=True)), r"(?s)Python objects.*allow_pickle"),
    "pickle called npy": (logits_are(pickle.dumps([1.0])), r"(?s)it is a pickle.*pickle\.load"),
    "float128": (
        logits_are(npy(outputs("longdouble"))),
        r"it holds (float128|longdouble).*float16, float32 or float64",
    ),
    "complex": (logits_are(npy(outputs("complex64"))), r"it holds complex64"),
    "structured": (logits_are(npy(np.zeros((3, 40), [("p", "f4"), ("q", "f4")]))), r"structured dtype"),
    "bfloat16 without its name": (logits_are(npy(np.zeros((3, 40, 4), "V2"))), r"bfloat16 loses its name"),
    "dates": (logits_are(npy(np.zeros((3, 40, 4), "datetime64[s]"))), r"it holds datetime64"),
    "texts as logits": (logits_are(npy(np.full((3, 40, 4), "x"))), r"it holds <U1 for logits"),
    "whole numbers as logits": (logits_are(npy(outputs().astype(int))), r"it holds int64 for logits"),
    "no members": (logits_are(npy(outputs()[:0])), r"it is empty, \[0, 40, 4\]"),
    "no examples": (logits_are(npy(outputs()[:, :0])), r"it is empty, \[3, 0, 4\]"),
    "one class": (logits_are(npy(outputs()[..., :1])), r"it has 1 class"),
    "one axis too few": (logits_are(npy(outputs()[0])), r"\[40, 4\] for logits.*save outputs\[None\]"),
    "six axes": (logits_are(npy(np.zeros((1,) * 6, "f4"))), r"it has 6 dimensions"),
    # a folder
    "nothing in it": (lambda at: at, r"it holds nothing: no predictions"),
    "pickles only": (
        other_case({"test.logits.npy": None, "test.labels.npy": None, "logits.pkl": b"x"}),
        r"it is a pickle",
    ),
    "no test outputs": (
        other_case({"test.logits.npy": None, "ood/svhn.logits.npy": npy(outputs())}),
        r"no test\.logits\.npy",
    ),
    "a link that leads out": (linked_out, r"test\.logits\.npy: it is a link that leads out"),
    "a folder that leads out": (folder_linked_out, r"ood: it is a link that leads out"),
    "labels of fractions": (other_case({"test.labels.npy": npy(labels() + 0.5)}), r"test\.labels\.npy: .*fractions"),
    "labels in columns": (other_case({"test.labels.npy": npy(np.eye(4)[labels()])}), r"test\.labels\.npy: .*argmax"),
    "ids of fractions": (other_case({"test.ids.npy": npy(labels() + 0.5)}), r"test\.ids\.npy: ids are float64"),
    "labels of no set": (
        other_case({"validation.labels.npy": npy(labels())}),
        r"validation\.labels\.npy: there are no outputs",
    ),
    "intensity 7": (other_case({"shift/fog/7.logits.npy": npy(outputs())}), r"shift/fog/7\.logits\.npy: its intensity"),
    "images of floats": (other_case({"images/test.npy": npy(np.zeros((40, 3, 8, 8)))}), r"images/test\.npy: .*uint8"),
    "a link to itself": (linked_to_itself, r"loop\.npy: it is a link that leads nowhere"),
    "ids that are no text": (other_case({"test.ids.npy": no_characters()}), r"test\.ids\.npy: .*no characters"),
    "ids of bytes": (other_case({"test.ids.npy": npy(labels().astype("S1"))}), r"test\.ids\.npy: ids are \|S1"),
    "epochs that fall": (
        other_case({"trajectory.epochs.npy": npy(np.array([1, 0])), "trajectory.test.logits.npy": MOVED}),
        r"epochs do not increase",
    ),
    "no epochs": (other_case({"trajectory.test.logits.npy": MOVED}), r"epochs are not there"),
    "weights of nobody": (
        other_case({"weights/9.safetensors": b"x"}),
        r"weights/9\.safetensors: no member is called '9'",
    ),
    # ensemble.json
    "no JSON": (other_case({"ensemble.json": b"{"}), r"ensemble\.json"),
    "JSON without end": (other_case({"ensemble.json": b"[" * 100_000}), r"ensemble\.json"),
    "JSON that is no text": (other_case({"ensemble.json": b"\xff\xfe\x00"}), r"ensemble\.json: it is not UTF-8"),
    "another schema": (other_case({"ensemble.json": manifest(schema=2)}), r"schema"),
    "an unknown kind": (other_case({"ensemble.json": manifest(kind="scores")}), r"kind.*logits"),
    "a seed of 70 bits": (
        other_case({"ensemble.json": manifest(members=[{"id": i, "seed": 2**70} for i in range(3)])}),
        r"members\.0\.seed: .* too large .*9 223 372 036 854 775 808",
    ),
    "too many members": (
        other_case({"ensemble.json": manifest(members=[{"id": i} for i in range(5)])}),
        r"names 5 members",
    ),
    "members of one name": (
        other_case({"ensemble.json": manifest(members=[{"id": 1}] * 3)}),
        r"two members are called '1'",
    ),
    "a set that is not there": (
        other_case({"ensemble.json": manifest(sets={"svhn": {"role": "ood"}})}),
        r"the set 'svhn'",
    ),
    # an archive
    "cut archive": (cut, r"e\.npz: it is a damaged archive"),
    "damaged numbers": (changed_inside, r"test\.(logits|labels)\.npy: it cannot be read"),
    "bomb": (bomb, r"e\.npz: [\d,]+ bytes unpack to [\d,]+"),
    "files over each other": (lying_over_each_other, r"e\.zip: its files lie over each other"),
    "path that climbs": (zip_holds("../../evil.npy"), r"'\.\./\.\./evil\.npy', which leads out"),
    "path from the root": (zip_holds("/etc/evil.npy"), r"'/etc/evil\.npy', which leads out"),
    "path of Windows": (zip_holds("..\\evil.npy"), r"it holds"),
    "path with a drive": (zip_holds("C:/evil.npy"), r"'C:/evil\.npy', which leads out"),
    "control characters": (zip_holds("a\nb.npy"), r"it holds a file called 'a\\nb\.npy'"),
    "encrypted": (encrypted, r"it is encrypted"),
    "packed otherwise": (lambda at: archive(at / "e.zip", packed=zipfile.ZIP_LZMA), r"it is packed in a way"),
    "a link in an archive": (link_in_archive, r"ood/svhn\.logits\.npy: it is a link"),
    "a file twice": (twice, r"it holds 'test\.labels\.npy' twice"),
    "no archive": (file_is("e.npz", b"hello"), r"e\.npz: it is no archive"),
    "a file of HDF5": (
        file_is("run.h5", b"\x89HDF\r\n\x1a\n" + bytes(99)),
        r'(?s)run\.h5: .*np\.save\(.*h5py\.File\("(?:[^"]+/)?run\.h5"\)',
    ),
    "a file of MATLAB": (
        file_is("run.mat", b"MATLAB 5.0 MAT-file, x"),
        r'(?s)run\.mat: .*scipy\.io\.loadmat\("(?:[^"]+/)?run\.mat"\)',
    ),
    "compressed alone": (file_is("t.csv.gz", b"\x1f\x8b\x08\x00x"), r"t\.csv\.gz: it is compressed by gzip"),
    "nothing of that name": (lambda at: at / "nothing.npz", r"there is nothing of that name"),
    # other files
    "a pickle": (
        file_is("runs.pkl", b"x"),
        r'(?s)runs\.pkl: .*pickle\.load\(open\("(?:[^"]+/)?runs\.pkl", "rb"\)\).*np\.save\("(?:[^"]+/)?runs\.npy"',
    ),
    "a pickle called npz": (file_is("e.npz", pickle.dumps([1])), r"e\.npz: it is a pickle"),
    "a file of torch": (
        file_is("logits.pt", b"x"),
        r"(?s)logits\.pt: .*torch\.load\(\"(?:[^\"]+/)?logits\.pt\", map_location=\"cpu\", weights_only=True\)",
    ),
    "a checkpoint": (file_is("model.pth", b"x"), r"model\.pth: it is a file of torch"),
    "one array": (file_is("logits.npy", npy(outputs())), r"true labels are another"),
    "CSV without members": (file_is("t.csv", b"a,b\n1,2\n"), r"t\.csv: its columns are a, b"),
    "CSV with a gap": (file_is("t.csv", b"member,p_0,p_2\n0,1,0\n"), r"no column p_1"),
    "CSV of words": (file_is("t.csv", b"member,label,p_0,p_1\n0,1,a,b\n"), r"line 2 holds 'a', which is no number"),
    "CSV cut in a row": (file_is("t.csv", b"member,label,p_0,p_1\n0,1,.5\n"), r"line 2 has 3 values"),
    "CSV that is empty": (file_is("t.csv", b""), r"its columns are none"),
    "CSV that is no text": (
        file_is("t.csv", b"member,p_0,p_1\n\xff\xfe,1,2\n"),
        r"t\.csv: it cannot be read|first line",
    ),
    "CSV of two kinds": (file_is("t.csv", b"member,p_0,p_1,logit_0,logit_1\n"), r"its columns are"),
    "CSV with semicolons": (
        file_is("t.csv", b"member;label;p_0;p_1\n0;1;,5;,5\n"),
        r"separated by semicolons: member, ",
    ),
    "CSV with tabs": (file_is("t.csv", b"member\tlabel\tp_0\tp_1\n"), r"separated by tabs"),
    "a column numbered beyond all": (file_is("t.csv", b"member,label,p_0,p_" + b"9" * 20 + b"\n"), r"no column p_1"),
    "a column of one class twice": (file_is("t.csv", b"member,label,p_0,p_00,p_1\n"), r"two of its columns are p_0"),
    "a label of a fraction": (file_is("t.csv", b"member,label,p_0,p_1\n0,0.7,.5,.5\n"), r"line 2 .*the label 0\.7"),
    "a label beyond all numbers": (
        file_is("t.csv", b"member,label,p_0,p_1\n0,1e300,.5,.5\n"),
        r"line 2 .*the label 1e300",
    ),
    "a prediction beyond all numbers": (
        file_is("t.csv", b"member,label,prediction\n0,0,1e300\n0,1,0\n"),
        r"member '0' predicts what is no class number, in line 2",
    ),
    "an example twice": (
        file_is("t.csv", b"member,example,label,p_0,p_1\n0,7,1,.5,.5\n0,7,1,.5,.5\n"),
        r"member '0' has the example '7' twice in test, in lines 2 and 3",
    ),
    "a member that lacks an example": (
        file_is("t.csv", b"member,example,label,p_0,p_1\n0,7,1,.5,.5\n0,8,1,.5,.5\n1,7,1,.5,.5\n"),
        r"member '1' has 1",
    ),
}


def whole(path: Path) -> None:
    """Reads as an import does: the records, the door, the digest."""
    ensemble = read(path)
    examine(ensemble)
    set_digest(ensemble)


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_file_is_refused_in_words_that_say_what_is_allowed(case: str, tmp_path: Path) -> None:
    make, words = REFUSED[case]
    path = make(tmp_path)
    with pytest.raises(InvalidInput, match=words) as refused:
        whole(path)
    assert refused.value.allowed or refused.value.problems[0].field, "it says what is allowed, or where it stands"
    assert "\udcff" not in str(refused.value)


SAFETENSORS = {
    "cut": (tensors(b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', bytes(12)), "promises 16 bytes"),
    "header beyond the file": ((1 << 40).to_bytes(8, "little") + b"{}", "does not begin"),
    "no JSON": (tensors(b"{nope"), "header cannot be read"),
    "bytes shared by two": (tensors(b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
                                    b'"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', bytes(4)), "misplaces"),
    "another size": (tensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}}', bytes(4)), "misplaces"),
    "an unknown dtype": (tensors(b'{"a":{"dtype":"Q9","shape":[4],"data_offsets":[0,4]}}', bytes(4)), "'Q9'"),
    "a length below 0": (tensors(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', bytes(4)), r"\[-1\]"),
    "a file of torch": (b"PK\x03\x04" + bytes(60), "file of torch"),
    "empty": (b"", "does not begin"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAFETENSORS)
def test_malformed_weights_are_refused(case: str, tmp_path: Path) -> None:
    data, words = SAFETENSORS[case]
    with pytest.raises(InvalidInput, match=rf"weights/0\.safetensors: .*{words}"):
        whole(folder(tmp_path, {"weights/0.safetensors": data}))


def test_no_name_at_all_is_not_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder(tmp_path))
    with pytest.raises(InvalidInput, match="names no file"):
        read("")


def test_a_table_of_more_rows_than_memory_is_meant_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows cost memory of their own: a parquet file of 20 million equal rows has some kilobytes."""
    monkeypatch.setattr("modescape.imported.long_form.MOST_ROWS", 50)
    (tmp_path / "t.csv").write_text("member,label,p_0,p_1\n" + "0,1,.5,.5\n" * 60)
    with pytest.raises(InvalidInput, match="more than 50 rows"):
        read(tmp_path / "t.csv")


@pytest.mark.slow
def test_a_header_that_lies_costs_no_memory(tmp_path: Path) -> None:
    """In a process that may not have 1 GB more than it begins with: a header promises 27, an archive unpacks to 2."""
    folder(tmp_path / "a", {"test.logits.npy": header(ROW.replace("40", str(600_000_000)))})
    bomb(tmp_path)
    program = (
        "import resource, sys; from modescape.imported.reading import read; from modescape.errors import InvalidInput\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)\n"
        "for path in sys.argv[1:]:\n"
        "    try: read(path)\n"
        "    except InvalidInput as error: print('refused', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a"), str(tmp_path / "e.npz")],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.count("refused") == 2, done.stdout + done.stderr


# --- what is odd and yet whole ---


def same_as_plain(ensemble: Ensemble) -> None:
    assert np.array_equal(ensemble.test.outputs.read(), outputs())
    assert np.array_equal(np.stack(list(ensemble.test.outputs.rows())), outputs())
    assert all(row.flags.c_contiguous and row.dtype.isnative for row in ensemble.test.outputs.rows())


@pytest.mark.parametrize("kept", [np.asfortranarray(outputs()), outputs(">f4"), np.asfortranarray(outputs(">f4"))],
                         ids=["Fortran order", "big endian", "both"])  # fmt: skip
def test_other_orders_of_bytes_are_the_same_numbers(kept: np.ndarray, tmp_path: Path) -> None:
    same_as_plain(read(folder(tmp_path / "a", {"test.logits.npy": npy(kept)})))
    np.savez(tmp_path / "b.npz", **{"test.logits": kept, "test.labels": labels()})
    same_as_plain(read(tmp_path / "b.npz"))
    assert set_digest(read(tmp_path / "b.npz")) == set_digest(read(folder(tmp_path / "c")))


def test_names_in_any_script_are_kept(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", **{"test.logits": outputs(), "test.labels": labels(), "ood/čísla 数字": outputs(),
                                    "ood/čísla 数字.logits": outputs()})  # fmt: skip
    assert [one.name for one in read(tmp_path / "e.npz").sets.values()] == ["čísla 数字", "test"]


def test_a_file_cut_after_it_was_looked_at_is_refused_and_ends_no_process(tmp_path: Path) -> None:
    ensemble = read(folder(tmp_path))
    path = tmp_path / "test.logits.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InvalidInput, match="it has changed since"):
        ensemble.test.outputs.read()


def test_what_systems_leave_behind_is_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "e.zip", **{"__MACOSX/._test.logits.npy": b"x", ".DS_Store": b"x", "notes.txt": b"x"})
    assert read(path).unread == ("notes.txt",)


def test_a_folder_packed_with_itself_around_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as file:
        file.writestr("mine/ensemble.json", manifest(name="mine"))
        file.writestr("mine/test.logits.npy", npy(outputs()))
        file.writestr("mine/test.labels.npy", npy(labels()))
    same_as_plain(read(tmp_path / "e.zip"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packed", "images", "most"),
    [("npz", 10_000, 350_000), pytest.param("npz", 50_000, 1_200_000, marks=pytest.mark.check),
     pytest.param("folder", 50_000, 1_200_000, marks=pytest.mark.check)],
)  # fmt: skip
def test_a_large_ensemble_is_read_looked_at_and_named_in_bounded_memory(
    packed: str, images: int, most: int, tmp_path: Path
) -> None:
    """20 x 50,000 x 1,000 in float16, ImageNet's size, are 2 GB. most: kB that the process takes, of which
    memory-mapped pages are not counted, since the system takes those back when it needs them."""
    program = (
        "import sys\n"
        "from modescape.imported.reading import read; from modescape.imported.door import examine\n"
        "from modescape.imported.digest import set_digest\n"
        "ensemble = read(sys.argv[1]); found = examine(ensemble); set_digest(ensemble)\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)\n"
        "print(*(int(status[name].split()[0]) for name in ('RssAnon', 'VmHWM')))\n"  # ru_maxrss may be the parent's
    )
    path = big(tmp_path, packed, images)
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    anonymous, peak = map(int, done.stdout.split())
    assert anonymous < most
    if packed == "npz":
        assert peak < most


def big(at: Path, packed: str, images: int) -> Path:
    random = np.random.default_rng(0)
    some = random.normal(size=(images, 1_000)).astype("f2")
    truth = some.argmax(-1)
    described = header(f"{{'descr': '<f2', 'fortran_order': False, 'shape': (20, {images}, 1000), }}")
    target = at / ("e.npz" if packed == "npz" else "test.logits.npy")
    if packed == "npz":
        with zipfile.ZipFile(target, "w") as file:
            with file.open("test.logits.npy", "w", force_zip64=True) as entry:
                entry.write(described)
                for _ in range(20):
                    entry.write(some.data.cast("B"))
            file.writestr("test.labels.npy", npy(truth))
        return target
    with target.open("wb") as entry:
        entry.write(described)
        for _ in range(20):
            entry.write(some.data.cast("B"))
    (at / "test.labels.npy").write_bytes(npy(truth))
    return at
