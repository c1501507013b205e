"""The API keeps its word, asked with what schemathesis makes of its description; `make fuzz` asks longer.

Every check of schemathesis is on (`schemathesis.toml`) but two, which take an experiment for a plain resource: what was
created is there, and its ensemble is 404 until a worker has made it; DELETE archives, and what was archived still
answers to its name. The streams of events, which have no end, are asked in `test_bad_input.py`.
MODESCAPE_FUZZ_CASES says how many cases there shall be at least.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from keeping import keep
from serving import finished, mainly, served

HERE = Path(__file__).parent


def asked(url: str, folder: Path, *options: str) -> tuple[int, str]:
    """How many cases there were. Fails with what was told where one of them broke a rule."""
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={HERE / 'schemathesis.toml'}", "run",
               f"{url}/api/openapi.json", "--exclude-checks=ensure_resource_availability,use_after_free",
               "--exclude-path-regex=events$", "--request-timeout=20",
               "--continue-on-failure", "--no-color", "--warnings=off", *options]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    told = ended.stdout + ended.stderr
    count = re.search(r"([\d,]+) generated", told)
    assert ended.returncode == 0, told[-8000:]
    assert count is not None, told[-2000:]
    return int(count[1].replace(",", "")), told


@pytest.mark.slow
@mainly("postgres")
def test_the_api_keeps_its_word(tmp_path: Path, store_url: str) -> None:
    with served(tmp_path, database_url=store_url) as site:
        finished(site.laboratory)
        count, _ = asked(site.url, tmp_path, "--phases=examples,fuzzing", "--max-examples=4", "--seed=1")
    assert count >= 300


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_the_api_keeps_its_word_for_long(tmp_path: Path, store_url: str) -> None:
    least, count, seed = int(os.environ.get("MODESCAPE_FUZZ_CASES", "20000")), 0, 1
    with served(tmp_path, database_url=store_url) as site:
        finished(site.laboratory)
        while count < least:
            more, _ = asked(
                site.url, tmp_path, "--phases=examples,coverage,fuzzing,stateful", "--max-examples=60", f"--seed={seed}"
            )
            count, seed = count + more, seed + 1
    keep("fuzz", f"the API on {store_url.partition(':')[0]}", {"cases": count, "of a seed": seed - 1})
