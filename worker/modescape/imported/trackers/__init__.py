"""What other tools have logged: runs with their parameters, curves, and predictions where those were kept as files.

    ensemble = read_logs(Path("mlruns"))            # None where nothing of the kind lies there
    ensemble.members[0].config                      # {"learning_rate": 0.001, ...}
    ensemble.curves["salty-gull-89"]["val_loss"]    # [points, 3]: step, value, Unix time

Each reader is a file: MLflow (folder and SQLite), TensorBoard, Lightning's and Keras's tables. A run becomes a member.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modescape.imported.ensemble import Ensemble
from modescape.imported.trackers import csv_logs, mlflow_database, mlflow_folder, tensorboard_events
from modescape.imported.trackers.logged import Asked, Logs, assembled

_READERS: tuple[Callable[[Path, Asked], Logs | None], ...] = (
    mlflow_database.find, mlflow_folder.find, csv_logs.find, tensorboard_events.find,
)  # fmt: skip


def read_logs(path: Path, asked: Asked = Asked()) -> Ensemble | None:
    """The runs that were logged at a path; None where no reader knows what lies there.

    Raises InvalidInput naming the file, Unclear where there are several experiments.
    """
    for find in _READERS:
        if (logs := find(path, asked)) is not None:
            return assembled(path, logs, asked)
    return None
