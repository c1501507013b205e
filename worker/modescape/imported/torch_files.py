"""A checkpoint of torch as .safetensors: read by another process under limits, which runs nothing that is in it.

    with Converter() as convert:
        told = convert(Path("best.pt"), Path("best.safetensors"))
    told.inside                                 # "state_dict", the key under which the weights were

This process never loads torch. Another one does with the first file, and reads each in a fork of its own with
`weights_only`, which takes tensors and plain containers and refuses every other pickle.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from modescape import extras
from modescape.imported.arrays import Refused, converting, refuse

SUFFIXES = (".pt", ".pth", ".ckpt", ".th", ".bin")
ORDER = "order"  # in the metadata of what is written: the names as the state dict had them, which the format forgets
SECONDS = 300.0  # that reading a file may take
LARGEST = 16 << 30  # bytes of a file
_POINTER = b"version https://git-lfs"
_ALLOWED = "a state dict of tensors, by itself or under a key such as state_dict, or .safetensors"


@dataclass(frozen=True)
class Converted:
    """inside: the key under which the weights were, "" where the file is them; left_out: what beside them is no
    tensor."""

    inside: str
    left_out: tuple[str, ...]


def is_of_torch(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


class Converter:
    """Writes the tensors of files of torch, one at a time, as .safetensors."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __call__(
        self, source: Path, target: Path, *, name: str = "", at: str = "", seconds: float = SECONDS
    ) -> Converted:
        """name: what messages call the file; at: its path, as whoever reads them would open it. Raises InvalidInput
        where it holds anything but weights, or takes more memory or time than reading weights does."""
        name = name or source.name
        if not extras.has("torch"):
            line = extras.line("worker")
            raise refuse(name, "torch, which reads it, is not installed", f".safetensors, or after {line}")
        _refuse_others(source, name)
        size = source.stat().st_size
        if size > LARGEST:
            raise refuse(name, f"it has {size:,} bytes", f"at most {LARGEST >> 30} GiB")
        try:
            told = _told(self._asked([str(source.resolve()), str(target.absolute()), size], seconds))
        except TimeoutError as error:
            raise refuse(name, f"reading it took longer than {seconds:g} s", _ALLOWED) from error
        except BaseException:
            self._end()
            raise
        if told is None:
            raise refuse(name, "reading it took more memory or time than weights of its size do", _ALLOWED)
        if told.refused == "pickle":
            raise _unsafe(name, at or name, told.why)
        if told.refused == "several":
            raise _several(name, at or name, told.places)
        if told.refused:
            raise refuse(name, told.why, _ALLOWED)
        return Converted(told.inside, told.left_out)

    def _asked(self, question: Sequence[str | int], seconds: float) -> str:
        """What a fork says, "" where it came to its end before. Raises TimeoutError."""
        if self._process is not None and self._process.poll() is not None:  # somebody has ended it
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "modescape.imported.torch_child"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                start_new_session=True,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            self._end()
            raise TimeoutError
        answer = self._process.stdout.readline()
        if not answer:
            self._end()
            return ""
        return str(json.loads(answer))

    def _end(self) -> None:
        """With the fork that is reading."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has ended
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
        self._process = None


class _Reply(BaseModel):
    """What the other process says. refused: "" where it wrote the file, else what is wrong; why: in words;
    places: where it has weights, if in several."""

    refused: str = ""
    why: str = ""
    places: tuple[str, ...] = ()
    inside: str = ""
    left_out: tuple[str, ...] = ()


def _told(text: str) -> _Reply | None:
    try:
        return _Reply.model_validate_json(text.strip().rpartition("\n")[2])
    except ValidationError:
        return None


def _refuse_others(path: Path, name: str) -> None:
    """Raises InvalidInput for what is often found under such a name and is no file of torch."""
    with path.open("rb") as file:
        beginning = file.read(200)
    if not beginning:
        raise refuse(name, "it is empty", _ALLOWED)
    if beginning.startswith(_POINTER):
        raise refuse(name, "it is a pointer of Git LFS and not the file itself: git lfs pull fetches that", _ALLOWED)
    if beginning.lstrip()[:1] == b"<":
        raise refuse(name, "it is a page of HTML or XML, as a download that failed leaves", _ALLOWED)
    if beginning.isascii() and beginning.decode().isprintable():
        raise refuse(name, f"it is a text, which begins {beginning[:40].decode()!r}", _ALLOWED)


def _several(name: str, at: str, places: Sequence[str]) -> Refused:
    keys = "".join(f"[{json.dumps(key)}]" for key in places[0].split("/"))
    message = (
        f"it has weights in several places ({', '.join(places)}), and which are meant is not said. Write out those "
        f"that are, such as the first:\n{converting(at, f'{_loaded(at)}{keys}')}"
    )
    return refuse(name, message, _ALLOWED)


def _unsafe(name: str, at: str, why: str) -> Refused:
    found = 'found.state_dict() if hasattr(found, "state_dict") else found["state_dict"]'
    lines = converting(at, _loaded(at, weights_only=False), found)
    message = (
        f"it holds more than tensors ({why}): loading that can run any program, so it is not read here. Where you "
        f"trust it, convert it, a whole network where its class is known; of other files state_dict is the key under "
        f"which its weights are:\n{lines}"
    )
    return refuse(name, message, _ALLOWED)


def _loaded(at: str, *, weights_only: bool = True) -> str:
    return f'torch.load({json.dumps(at)}, map_location="cpu", weights_only={weights_only})'
