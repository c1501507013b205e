"""What an ensemble is made of, by path, and the one number that says whether two are the same.

    contents(ensemble)["test.logits.npy"]       # the Array that lies, or would lie, there
    set_digest(ensemble)                        # SHA-256, the same for a folder, an .npz and arrays in memory

The digest is over paths and contents: of an array its dtype, shape and numbers in C order, of tensors the same by name,
of `ensemble.json` what it says but for the ensemble's name. Nothing else of a file matters: not its age, not how it is
packed, not whether members had files of their own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from modescape.imported.arrays import Array, held
from modescape.imported.ensemble import Ensemble, ExampleSet, OutputKind, Tensors
from modescape.imported.manifest import NAME, document
from modescape.imported.tensors import header_of

Content: TypeAlias = Array | Tensors | str

FILE_OF = {
    OutputKind.LOGITS: "logits",
    OutputKind.PROBS: "probs",
    OutputKind.LOG_PROBS: "log-probs",
    OutputKind.LABELS: "predictions",
}
_BLOCK = 1 << 22


def contents(ensemble: Ensemble, *, with_name: bool = True) -> dict[str, Content]:
    """path -> what lies there, sorted; a text is a file of UTF-8. with_name: False leaves the ensemble's name out."""
    what = FILE_OF[ensemble.kind]
    found: dict[str, Content] = {NAME: _json(document(ensemble, with_name=with_name))}
    for one in ensemble.sets.values():
        found |= _of_set(one, what)
    for method, samples in ensemble.samples.items():
        at = f"samples/{method}"
        found |= {f"{at}/{place}.{what}.npy": array for place, array in samples.outputs.items()}
        found |= {f"{at}/centre/{place}.{what}.npy": array for place, array in samples.centre.items()}
        if samples.strength is not None:
            found[f"{at}/strength.npy"] = held("strength", samples.strength)
        if samples.better is not None:
            found[f"{at}/better.npy"] = held("better", samples.better.astype(np.uint8))
    if ensemble.trajectory is not None:
        found["trajectory.epochs.npy"] = held("epochs", ensemble.trajectory.named)
        found |= {f"trajectory.{place}.{what}.npy": array for place, array in ensemble.trajectory.outputs.items()}
    found |= {f"weights/{called(member)}.safetensors": tensors for member, tensors in ensemble.weights.items()}
    for member, curves in ensemble.curves.items():
        found |= {f"curves/{called(member)}/{name}.npy": held(name, points) for name, points in curves.items()}
    return dict(sorted((found | dict(ensemble.rest)).items()))


# What of a member's id would lead elsewhere as the name of a file or of a folder, or would not be looked at there: what
# separates names, what hides them, and endings that folders cannot have (`containers.Folder`).
_UNFIT = re.compile(r"[/\\:%\x00-\x1f\x7f]|\A\.|\A_(?=_MACOSX)|\.(?=(?:npy|npz|safetensors)\Z)", re.IGNORECASE)


def called(member: str) -> str:
    """What a member of that id is called among files: as it is, but for characters that cannot be, as %2F."""
    return _UNFIT.sub(lambda found: f"%{ord(found[0]):02X}", member)


def _of_set(one: ExampleSet, what: str) -> dict[str, Content]:
    found: dict[str, Content] = {f"{one.place}.{what}.npy": one.outputs}
    if one.labels is not None:
        found[f"{one.place}.labels.npy"] = held("labels", one.labels)
    if one.ids is not None:
        found[f"{one.place}.ids.npy"] = held("ids", one.ids)
    if one.images is not None:
        found[f"images/{one.place}.npy"] = one.images
    return found


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def set_digest(ensemble: Ensemble) -> str:
    """SHA-256 of the ensemble, 64 hexadecimal digits; reads every array once, in bounded memory.

    Raises InvalidInput for damaged files.
    """
    found = contents(ensemble, with_name=False)
    return digest_of({path: content_digest(content) for path, content in found.items()})


def digest_of(digests: Mapping[str, str]) -> str:
    """The digest of an ensemble from those of its contents, by path: for whoever knows them already."""
    lines = "".join(f"{path}\0{digest}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def content_digest(content: Content) -> str:
    """SHA-256 of what is in a file. Raises InvalidInput for a damaged one."""
    if isinstance(content, str):
        return hashlib.sha256(content.encode()).hexdigest()
    return _of_array(content) if isinstance(content, Array) else _of_tensors(content)


def _of_array(array: Array) -> str:
    dtype = array.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{dtype.str} {list(array.shape)}\n".encode())
    for block in array.pieces():
        digest.update(np.asarray(block, dtype, order="C").reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _of_tensors(tensors: Tensors) -> str:
    """Of their names, dtypes, shapes and bytes: neither the order in the file nor its remarks."""
    header = header_of(tensors)
    parts = {}
    with tensors.open() as file:
        file.read(header.offset)
        for one in header.entries:  # in the order of the file
            digest, left = hashlib.sha256(), one.nbytes
            while left:
                block = file.read(min(left, _BLOCK))
                if not block:
                    raise header.cut_off()
                digest.update(block)
                left -= len(block)
            parts[one.name] = f"{one.name} {one.dtype} {list(one.shape)} {digest.hexdigest()}\n"
    return hashlib.sha256("".join(parts[name] for name in sorted(parts)).encode()).hexdigest()
