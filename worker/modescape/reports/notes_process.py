"""The process that reads notes: it is started by `notes_apart` and by nobody else."""

from __future__ import annotations

from modescape.reports.notes_apart import serve

if __name__ == "__main__":
    serve()
