"""`make audit`: what bandit finds in the code, each finding mended or justified below, and what is known of the
versions in `locks/`.

Fails at a finding that nobody looked at, and at a justification of what is no longer there. Where the index of known
faults cannot be reached, that is said and is no failure: nothing was found out either way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

EVERYWHERE = {
    "B101": "asserts say to readers and to mypy what holds already; no input is checked by one",
    "B404": "programs are started in lists of arguments, never by a shell",
    "B603": "what is started is this Python, nvidia-smi or git; nothing of a request is among the arguments",
    "B610": "`extra` is a method of our results, and Django is none of our libraries",
}
JUSTIFIED = {
    ("B104", "worker/modescape/settings.py"): "compares with the address; nothing is bound there",
    ("B107", "backend/modescape_api/pages/signin.py"): "an empty field of a form, which no token is equal to",
    ("B301", "worker/modescape/datasets/cifar_reading.py"): "the published file, whose MD5 is checked right before",
    ("B403", "worker/modescape/datasets/cifar_reading.py"): "as B301",
    ("B403", "worker/modescape/imported/torch_child.py"): "names the error of torch's own unpickler of weights",
    ("B310", "worker/modescape/datasets/here.py"): "addresses of published sets, which stand in the code",
    ("B310", "worker/modescape/supervisor.py"): "the address of our own server",
    ("B311", "worker/modescape/science/ensembles.py"): "numpy's generator with a seed: science, and no secret",
    ("B314", "worker/modescape/testing/presets.py"): "a test of thumbnails that stand in the code of an entry",
    ("B405", "worker/modescape/testing/presets.py"): "as B314",
    ("B506", "worker/modescape/documents.py"): "a loader of ours, a subclass of SafeLoader",
    ("B506", "worker/modescape/imported/trackers/csv_logs.py"): "BaseLoader makes texts, lists and mappings alone",
    ("B506", "worker/modescape/imported/trackers/mlflow_folder.py"): "BaseLoader makes texts, lists and mappings alone",
    ("B606", "worker/modescape/celery_queue.py"): "a worker begins afresh as itself",
    ("B607", "worker/modescape/supervisor.py"): "nvidia-smi is where the driver puts it, which PATH knows",
    ("B608", "worker/modescape/imported/trackers/mlflow_database.py"): "one of two names, written in the code",
    ("B608", "worker/modescape/listing.py"): "the name of an index, written in the code",
}  # fmt: skip


def found() -> dict[tuple[str, str], list[str]]:
    """(rule, file) -> lines."""
    command = [sys.executable, "-m", "bandit", "--quiet", "--recursive", "--format=json", "worker", "backend"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    places: dict[tuple[str, str], list[str]] = {}
    for one in json.loads(ended.stdout)["results"]:
        where = f"{one['filename']}:{one['line_number']}: {one['issue_text']}"
        places.setdefault((one["test_id"], one["filename"].removeprefix("./")), []).append(where)
    return places


def check_code() -> int:
    places = {place: lines for place, lines in found().items() if place[0] not in EVERYWHERE}
    new = [line for place, lines in places.items() if place not in JUSTIFIED for line in lines]
    old = [place for place in JUSTIFIED if place not in places]
    for line in new:
        print(f"not looked at: {line}")
    for rule, file in old:
        print(f"no longer there: {rule} in {file}")
    print(
        f"bandit: {sum(map(len, places.values()))} findings are justified in {Path(__file__).name}, {len(new)} are new"
    )
    return bool(new or old)


def check_versions() -> int:
    worst = 0
    for name in ("server", "all", "dev"):
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner=off",
                   "--format=json", "--requirement", f"locks/{name}.txt"]  # fmt: skip
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        try:
            told = json.loads(ended.stdout)["dependencies"]
        except ValueError:
            print(f"pip-audit: locks/{name}.txt was not compared: {ended.stderr.strip().splitlines()[-1:]}")
            continue
        asked = [one for one in told if "skip_reason" not in one]
        bad = [one for one in asked if one["vulns"]]
        for one in bad:
            print(f"{one['name']} {one['version']}: {', '.join(fault['id'] for fault in one['vulns'])}")
        print(f"pip-audit: of {len(told)} in locks/{name}.txt {len(asked)} were compared, {len(bad)} have known faults")
        worst |= bool(bad)
    return worst


if __name__ == "__main__":
    sys.exit(check_code() | check_versions())
