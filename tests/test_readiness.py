"""Whether a figure is ready, by every list and by the figure itself: one word, at any time and whatever has failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import Served, served
from unlucky import weigh

from modescape.executor import Executor, Machine
from modescape.registry import figures
from modescape.science.seeds import run_seeds

CPU = Machine("cpu", "test", "test")
EVERYTHING: dict[str, Any] = {
    "data": {"dataset": "digits", "input_scale": "standardised", "train_images": 97, "validation_images": 500},
    "network": {"architecture": "mlp"},
    "training": {"learning_rate": 0.01, "epochs": 12, "batch_size": 20, "snapshots": 4},
    "ensemble": {"runs": 3},
    "methods": [
        {"method": "random", "spread": 3, "typical": 3},
        {"method": "sgmcmc", "options": {"cycles": 2, "epochs_per_cycle": 2, "samples_per_cycle": 1,
                                         "noise_epochs": 1, "learning_rate": 0.05}},
    ],
    "evaluation": {"averaged": "fair", "embed_images": 50},
    "shift": {"corruptions": ["gaussian_noise"], "intensities": [1], "images": 60},
    "ood": [{"dataset": "permuted", "images": 60}],
    "planes": [{"kind": "line"},
               {"kind": "affine", "runs": [0, 1, 2], "train_images": 90, "test_images": 100}],
    "tunnels": [{"knots": 1, "images": 50, "triangle_images": 10}],
    "connectivity": {"points": 3, "images": 50},
    "instability": {"epochs": [1], "repetitions": 1, "points": 3, "images": 50},
    "seeds": {"learning_rates": [0.005], "repetitions": 1, "epochs": 2},
}  # fmt: skip
ALONE = {"data": EVERYTHING["data"], "network": {"architecture": "mlp"}, "training": EVERYTHING["training"],
         "ensemble": {"runs": 1}, "methods": []}  # fmt: skip
DIVERGING = {"none": [], "two of three": [0, 1], "every one": [0, 1, 2]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("ready")) as site:
        yield site


def words(client: httpx.Client, slug: str) -> dict[str, str]:
    """Figure -> the word of the list, once each figure has been asked and said the same."""
    listed = client.get(f"/api/experiments/{slug}/figures").json()["items"]
    assert {one["name"] for one in listed} == set(figures)
    told = {}
    for one in listed:
        answer = client.get(one["links"]["json"])
        document = answer.json()
        about = document["words"] if answer.status_code == 200 else document
        assert about["state"] == one["state"], (one["name"], answer.status_code, document.get("detail"))
        assert (answer.status_code == 200) == (one["state"] in ("ready", "partial")), one["name"]
        assert answer.status_code in (200, 409), one["name"]
        told[one["name"]] = one["state"]
    return told


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("diverged", [pytest.param("none", marks=pytest.mark.check), "two of three", "every one"])
def test_list_and_figure_agree_at_every_step_of_an_experiment(
    diverged: str, site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every study there is, also where some or all of its runs diverge."""
    seed = len(DIVERGING[diverged])  # so that none takes over the results of another
    weigh({run_seeds(seed, run, "both").weights: 1e18 for run in DIVERGING[diverged]}, monkeypatch.setattr)
    laboratory = site.laboratory
    row = laboratory.create({**EVERYTHING, "ensemble": {"runs": 3, "seed": seed}}, name=f"diverged {diverged}")
    executor = Executor(laboratory.store, laboratory.artifacts, laboratory.settings, machine=CPU)
    with site.client() as client:
        assert {word for name, word in words(client, row.slug).items() if name != "logged-curves"} == {"waiting"}
        taken = 0
        while lease := laboratory.store.leases.claim("tests", experiment_id=row.id, lease_seconds=60):
            executor.work(lease)
            taken += 1
            if taken % 25 == 0:
                words(client, row.slug)
        told = words(client, row.slug)
    assert "waiting" not in told.values(), "nothing is to come"
    expected = {"none": {"ready"}, "two of three": {"ready", "failed"}, "every one": {"failed"}}[diverged]
    assert {
        word for name, word in told.items() if name not in ("seeds", "training-curves", "logged-curves")
    } == expected, told


@pytest.mark.slow
def test_list_and_figure_agree_on_what_an_experiment_never_asked_for(site: Served) -> None:
    row = site.laboratory.create(ALONE, name="alone")
    with site.client() as client:
        before = words(client, row.slug)
        Executor(site.laboratory.store, site.laboratory.artifacts, site.settings, machine=CPU).run_experiment(row.id)
        after = words(client, row.slug)
    assert set(before.values()) == {"waiting", "not-planned"}
    assert set(after.values()) == {"ready", "not-planned"}
