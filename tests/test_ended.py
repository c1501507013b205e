"""What has ended waits for nothing: pages of cancelled and failed experiments say what never comes, and what helps."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from serving import SPEC, Served, SmallRunner, served

from modescape.executor import Executor, Machine
from modescape.records import Progress
from modescape.tables import utcnow
from modescape_api.pages.display import by_kind, seconds_left, stages_in_words


def stopped(site: Served, name: str, stages: int) -> None:
    """An experiment of which so many stages are done, and that is cancelled then."""
    laboratory = site.laboratory
    row = laboratory.create(SPEC, name=name)
    machine = Machine(device="cpu", title="test", numerics="test")
    executor = Executor(
        laboratory.store, laboratory.artifacts, laboratory.settings, runner=SmallRunner(), machine=machine
    )
    for _ in range(stages):
        lease = executor._claim(executor.machine.queues, row.id)
        assert lease is not None
        executor.work(lease)
    laboratory.store.experiments.cancel(row.id)


@pytest.mark.slow
@pytest.mark.parametrize("stages", [0, 3])
def test_what_was_cancelled_waits_for_nothing(tmp_path: Path, stages: int) -> None:
    with served(tmp_path) as site, site.client(follow_redirects=True) as client:
        stopped(site, "stopped", stages)
        page = " ".join(client.get("/experiments/stopped", headers={"Accept": "text/html"}).text.split())
        assert "Waits for" not in page
        assert re.search(r"Not made: \w+ was cancelled", page)
        assert 'data-wait style="--h:7em"' in page, "what never comes takes no room of a picture"
        assert "retry it" not in page
        images = client.get("/experiments/stopped/examples", headers={"Accept": "text/html"}).text
        assert "being worked out" not in images
        assert "take the experiment up again" in images


def test_skipped_stages_are_counted_as_what_they_are(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        row = site.laboratory.create(SPEC, name="one")
        stages = site.laboratory.store.stages.without_results(row.id)
        for stage in stages:
            stage.state = type(stage.state).SUCCEEDED
            if stage.kind == "compare":
                stage.progress = {"skipped": "nothing to compare"}
        kinds = {kind.kind: kind for kind in by_kind(stages)}
        assert (kinds["compare"].glyph, kinds["train"].glyph) == ("–", "✓")
        skipped = sum(stage.kind == "compare" for stage in stages)
        assert stages_in_words(list(kinds.values())) == (
            f"{len(stages)} of {len(stages)} stages done, {skipped} of them skipped"
        )


def test_a_stage_that_takes_longer_than_planned_is_not_about_to_end_for_ever(tmp_path: Path) -> None:
    """By hand: planned 40 s, of which 30 have passed; 4 s are said near the end; after 200 s another 40."""
    with served(tmp_path) as site:
        row = site.laboratory.create(SPEC, name="one")
        lease = site.laboratory.store.leases.claim("a worker", experiment_id=row.id, lease_seconds=1e6)
        assert lease is not None
        site.laboratory.store.leases.beat(lease, Progress(0, 0, {}))
        stages = site.laboratory.store.stages.without_results(row.id)
        (running,) = (stage for stage in stages if stage.claimed_at is not None)
        running.estimate, running.steps, running.progress = 40.0, 0, {}
        for other in stages:
            if other is not running:
                other.state = type(other.state).CANCELLED
        for passed, left in ((10, 30), (39, 4), (200, 40)):
            running.claimed_at = utcnow() - timedelta(seconds=passed)
            said = seconds_left(stages, 1)
            assert said == pytest.approx(left, abs=0.5), passed


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "says"), [("cancel", "Being cancelled"), ("pause", "Being paused")])
def test_what_was_asked_to_stop_is_not_said_to_run_on(tmp_path: Path, verb: str, says: str) -> None:
    """Until the worker has noticed, which it does at its next step."""
    with served(tmp_path) as site, site.client() as client:
        row = site.laboratory.create(SPEC, name="one")
        assert site.laboratory.store.leases.claim("a worker", experiment_id=row.id, lease_seconds=1e6) is not None
        client.post(f"/api/experiments/one/{verb}").raise_for_status()
        page = " ".join(client.get("/experiments/one", headers={"Accept": "text/html"}).text.split())
        progress = page[page.index('id="live-progress"') :]
        assert progress[progress.index("<h2>") : progress.index("<span>")].split(">")[1].strip().startswith(says)


@pytest.mark.slow
def test_the_clock_says_from_when_to_when(tmp_path: Path) -> None:
    with served(tmp_path) as site, site.client() as client:
        stopped(site, "stopped", 2)
        page = " ".join(client.get("/experiments/stopped", headers={"Accept": "text/html"}).text.split())
        assert not re.search(r"\d s, \d+ s of machine time", page)
