"""TensorBoard's event files, read by TensorBoard itself: scalars (also those kept as tensors) and hyperparameters.

A folder with event files is a run; folders called train and validation below one are parts of it, as Keras writes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modescape.errors import InvalidInput
from modescape.imported.arrays import refuse
from modescape.imported.trackers.logged import MOST_POINTS, Asked, LoggedRun, Logs, curve, shown
from modescape.imported.two_arrays import natural

_FILES = "**/*tfevents*"
_PARTS = ("train", "validation", "val", "test", "eval")
_HPARAMS = "_hparams_/session_start_info"
Points = dict[str, list[tuple[float, float, float]]]


def find(path: Path, asked: Asked) -> Logs | None:
    """None where no event files lie there. Raises InvalidInput for damaged ones, or where TensorBoard is missing."""
    if path.is_file():
        files = [path] if "tfevents" in path.name else []
    else:
        files = sorted((one for one in path.glob(_FILES) if one.is_file()), key=lambda one: natural(str(one)))
    if not files:
        return None
    runs: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        is_part = file.parent.name in _PARTS and file.parent != path
        folder = file.parent.parent if is_part else file.parent
        runs[folder][f"{file.parent.name}/" if is_part else ""].append(file)
    return Logs(path.name, tuple(_run(path, folder, parts) for folder, parts in runs.items()))


def _run(path: Path, folder: Path, parts: Mapping[str, list[Path]]) -> LoggedRun:
    below = "" if path.is_file() else folder.relative_to(path).as_posix()
    name = folder.name if below in ("", ".") else below
    config: dict[str, Any] = {}
    points: Points = defaultdict(list)
    every = ((before, file) for before, files in parts.items() for file in files)
    events = ((before, file, *event) for before, file in every for event in _events(file, config))
    for count, (before, file, tag, point) in enumerate(events):
        if count > MOST_POINTS:
            raise refuse(shown(file), f"it holds more than {MOST_POINTS:,} points", "fewer")
        points[f"{before}{tag}"].append(point)
    files = None if path.is_file() else folder
    return LoggedRun(name, name, config, {name: curve(found) for name, found in points.items()}, files)


def _events(file: Path, config: dict[str, Any]) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """The scalars of one file, in the order in which they were written; hyperparameters go into `config`."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.compat.tensorflow_stub.errors import DataLossError
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as missing:
        raise InvalidInput(
            "event files are read by TensorBoard, which is not installed", field="files",
            allowed="after pip install 'modescape[tensorboard]'",
        ) from missing  # fmt: skip
    try:
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.tag == _HPARAMS:
                    config |= _hyperparameters(value.metadata.plugin_data.content)
                elif value.HasField("tensor") and value.metadata.plugin_data.plugin_name in ("scalars", ""):
                    found = make_ndarray(value.tensor)
                    if found.size == 1 and found.dtype.kind in "fiub":
                        yield value.tag, (float(event.step), float(found.reshape(())), float(event.wall_time))
    except DataLossError as error:
        raise refuse(shown(file), f"it is damaged ({error.message})", "whole event files") from error


def _hyperparameters(content: bytes) -> dict[str, Any]:
    from tensorboard.plugins.hparams import plugin_data_pb2

    read = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    kinds = {name: value.WhichOneof("kind") for name, value in read.items()}
    return {name: _plain(getattr(read[name], kind)) for name, kind in kinds.items() if kind}


def _plain(value: Any) -> Any:
    """Numbers are kept as floats: a whole one, such as a seed, is whole again."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
