"""The gallery: the page, its pictures byte for byte, and what cannot be shown, in words."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from serving import Served, served

from modescape.corruptions.corruption import VERSION, applicable, corrupt
from modescape.datasets.dataset import DataLocation
from modescape.datasets.preview import COUNT, preview
from modescape.errors import DataCorrupt
from modescape.registry import corruptions, datasets
from modescape.spec_parts import DataSpec

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    own = home / "data" / "mine.npz"
    own.parent.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (40, 20, 24, 3)).astype(np.uint8)
    np.savez(own, images=images, labels=np.arange(40) % 2)
    with served(home) as running:
        with running.client() as client:
            client.post("/api/data", json={"path": str(own), "name": "mine"}).raise_for_status()
        yield running


@pytest.fixture
def client(site: Served) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


def picture(answer: httpx.Response) -> NDArray[np.uint8]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def blobs() -> NDArray[np.uint8]:
    raw = datasets["blobs"].call(DataLocation(()), DataSpec(dataset="blobs"))
    found: NDArray[np.uint8] = raw.test_images
    return found


@pytest.mark.slow
def test_pictures_are_the_bytes_an_experiment_evaluates(client: httpx.Client) -> None:
    clean = blobs()[7:8]
    assert (picture(client.get("/api/gallery/blobs/7.png")) == clean[0, 0]).all()
    assert (picture(client.get("/api/gallery/blobs/7.png?corruption=contrast&intensity=0")) == clean[0, 0]).all()
    for name in ("gaussian_noise", "pixelate"):
        expected = corrupt(clean, name, 4, indices=np.array([7]), dataset="blobs")
        found = picture(client.get(f"/api/gallery/blobs/7.png?corruption={name}&intensity=4"))
        assert (found == expected[0, 0]).all()


@pytest.mark.slow
def test_a_row_holds_intensities_0_to_5_with_clear_gaps(client: httpx.Client) -> None:
    row = picture(client.get("/api/gallery/blobs/3.png?corruption=brightness"))
    clean = blobs()[3:4]
    height, width, channels = row.shape
    assert (height, channels) == (8, 2)
    opaque = row[0, :, 1] == 255
    assert opaque.sum() == 6 * 8
    step = (width - 8) // 5
    for intensity in range(6):
        part = row[:, intensity * step : intensity * step + 8]
        expected = clean
        if intensity:
            expected = corrupt(clean, "brightness", intensity, indices=np.array([3]), dataset="blobs")
        assert (part[..., 0] == expected[0, 0]).all()
        assert (part[..., 1] == 255).all()


def test_unchanged_pictures_are_not_sent_again(client: httpx.Client) -> None:
    first = client.get("/api/gallery/blobs/0.png?corruption=contrast&intensity=1")
    again = {"If-None-Match": first.headers["etag"]}
    assert client.get("/api/gallery/blobs/0.png?corruption=contrast&intensity=1", headers=again).status_code == 304
    assert client.get("/api/gallery/blobs/0.png?corruption=contrast&intensity=2", headers=again).status_code == 200


@pytest.mark.slow
def test_the_page_shows_every_type_that_applies_and_says_what_it_shows(client: httpx.Client) -> None:
    page = client.get("/gallery?dataset=mine&image=2", headers=HTML).text  # 20x24 pixels in colour: all types
    for name, kind in corruptions.items():
        assert f"/api/gallery/mine/2.png?corruption={name}" in page
        assert kind.title in page
    assert "Frost (procedural)" in page
    assert "CIFAR-10-C’s" in page
    assert f"version {VERSION} " in page
    assert "/gallery?dataset=mine&amp;image=1" in page
    small = client.get("/gallery?dataset=blobs", headers=HTML).text
    assert [name for name in corruptions if f"corruption={name}" in small] == list(applicable(1, 8, 8))
    assert "Left out" in small
    assert 'href="/gallery"' in client.get("/catalogue", headers=HTML).text
    colour = picture(client.get("/api/gallery/mine/2.png?corruption=saturate&intensity=5"))
    assert colour.shape == (20, 24, 3)


@pytest.mark.parametrize(
    ("address", "status", "field"),
    [
        ("/gallery?dataset=nothing", 422, "dataset"),
        ("/gallery?dataset=blobs&image=100", 422, "image"),
        ("/gallery?dataset=blobs&image=-1", 422, "image"),
        ("/gallery?dataset=blobs&image=first", 422, "image"),
        ("/gallery?dataset=cifar10", 409, None),
        ("/api/gallery/nothing/0.png", 422, "dataset"),
        ("/api/gallery/blobs/100.png", 422, "image"),
        ("/api/gallery/blobs/x.png", 422, "image"),
        ("/api/gallery/blobs/0.png?corruption=mist", 422, "corruption"),
        ("/api/gallery/blobs/0.png?corruption=fog", 422, "corruption"),
        ("/api/gallery/blobs/0.png?intensity=3", 422, "corruption"),
        ("/api/gallery/blobs/0.png?corruption=contrast&intensity=6", 422, "intensity"),
        ("/api/gallery/blobs/0.png?corruption=contrast&intensity=high", 422, "intensity"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(
    client: httpx.Client, address: str, status: int, field: str | None
) -> None:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    if field:
        assert [error["field"] for error in document["errors"]] == [field]
        assert document["errors"][0]["allowed"]
    else:
        assert "modescape data fetch cifar10" in document["detail"]


def test_the_address_is_documented(client: httpx.Client) -> None:
    about = client.get("/api/openapi.json").json()["paths"]["/api/gallery/{dataset}/{image}.png"]["get"]
    assert {p["name"] for p in about["parameters"]} == {"dataset", "image", "corruption", "intensity"}
    assert "image/png" in about["responses"]["200"]["content"]
    assert {"409", "422"} <= about["responses"].keys()
    listed = client.get("/api/catalogue").json()["corruptions"]
    assert [entry["name"] for entry in listed] == list(corruptions)
    assert listed[0]["constants"]["cifar"] == [[0.04], [0.06], [0.08], [0.09], [0.1]]


@pytest.mark.slow
def test_a_preview_reads_the_first_images_once(tmp_path: Path) -> None:
    file = tmp_path / "kept" / "blobs.npy"
    spec = DataSpec(dataset="blobs")
    assert (preview(spec, (), file) == blobs()[:COUNT]).all()
    assert [path.name for path in file.parent.iterdir()] == ["blobs.npy"]
    np.save(file, np.zeros((1, 1, 8, 8), np.uint8))
    assert preview(spec, (), file).shape == (1, 1, 8, 8)


@pytest.mark.slow
def test_a_set_that_cannot_be_read_is_told_in_the_readers_words(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataCorrupt, match="data_batch_1 is missing"):
        preview(DataSpec(dataset="cifar10"), (tmp_path,), tmp_path / "kept.npy")
    assert not (tmp_path / "kept.npy").exists()
