"""Every entry of every registry keeps its contract (modescape.testing); figures and stores have files of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from real_data import real
from saved_home import opened
from test_data import (
    DEBIAN,
    folder_spec,
    npz,
    own_numbers_or_saved,
    photographs,
    pictures,
    small_cifar10,
    small_cifar100,
    small_svhn,
)
from test_studies import NEEDED

from modescape import registry, testing
from modescape.claims import CLAIMS
from modescape.laboratory import Laboratory
from modescape.listing import ListQuery
from modescape.registry import Registry, architectures, corruptions, datasets, methods, presets, studies
from modescape.results import Results
from modescape.spec_parts import PLACES, DataSpec
from modescape.testing import (
    Checked,
    check_architecture,
    check_claim,
    check_corruption,
    check_method,
    check_preset,
    check_study,
)
from modescape.testing.datasets import DATASET, Trial
from modescape.testing.recipes import RECIPES

LARGE = ("resnet18", "resnet50v2")


def test_every_registry_has_a_contract() -> None:
    """A registry that is added later has none yet: this says which."""
    known = {name for name, one in vars(registry).items() if isinstance(one, Registry)}
    assert {*known, "claims"} == set(testing.CHECKS)
    assert {f"check_{name}" for name in ("store", *(check.__name__[6:] for check in testing.CHECKS.values()))} == {
        name for name in testing.__all__ if name.startswith("check_")
    }


def complete(checked: Checked) -> None:
    assert checked.held
    assert not checked.not_asked, checked


@pytest.mark.slow
@pytest.mark.parametrize("name", methods)
def test_a_method_keeps_its_contract(name: str) -> None:
    complete(check_method(name))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in architectures]
)
def test_a_network_keeps_its_contract(name: str) -> None:
    complete(check_architecture(name))


@pytest.mark.parametrize("name", presets)
def test_a_preset_keeps_its_contract(name: str) -> None:
    complete(check_preset(name))


@pytest.mark.parametrize("name", corruptions)
def test_a_corruption_keeps_its_contract(name: str, tmp_path: Path) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(rough).save(tmp_path / "frost.png")
    complete(check_corruption(name, frost_textures=tmp_path))


@pytest.mark.usefixtures("few_redraws")
@pytest.mark.parametrize("letter", CLAIMS)
def test_a_claim_keeps_its_contract(letter: str) -> None:
    complete(check_claim(letter))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in RECIPES for name in getattr(registry, kind)])
def test_a_part_of_a_training_keeps_its_contract(kind: str, name: str) -> None:
    complete(RECIPES[kind](name))


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Results]]:
    """Results of every experiment of the saved home."""
    laboratory = Laboratory(opened(Path(__file__).parent / "saved", tmp_path_factory.mktemp("saved") / "home"))
    yield [laboratory.results(row.slug) for row in laboratory.store.experiments.page(ListQuery(limit=100)).items]
    laboratory.store.close()


@pytest.mark.parametrize("name", studies)
def test_a_study_keeps_its_contract(name: str, homes: list[Results]) -> None:
    complete(check_study(name, asked=NEEDED.get(name), results=homes))


# ---- data sets: those that are not on this machine in their published layout, with fewer images ----


def _here(name: str, folder: Path) -> tuple[dict[str, Any], Path | None, Mapping[str, str] | None, DataSpec]:
    """What of the declaration is other (fewer images), the folder, the checksums and the spec."""
    spec = DataSpec(dataset=name) if name not in PLACES else DataSpec()
    if name == "cifar10":
        return {"train_total": 20, "test_total": 4, "validation_default": 2}, folder, small_cifar10(folder), spec
    if name == "cifar100":
        return {"train_total": 6, "test_total": 3, "validation_default": 2}, folder, small_cifar100(folder), spec
    if name == "svhn":
        return {"train_total": 12, "test_total": 5, "validation_default": 2}, folder, small_svhn(folder), spec
    if name == "fashion-mnist":
        return {}, DEBIAN, None, spec
    if name == "mnist":
        return {}, real("mnist").parent, None, spec
    if name == "imagenet":
        return {}, photographs(folder), None, spec
    if name == "folder":
        pictures(folder / "mine", {"cats": 20, "dogs": 30})
        return {}, None, None, folder_spec(folder / "mine")
    if name == "npz":
        images = np.random.default_rng(0).integers(0, 256, (60, 6, 5), dtype=np.uint8)
        return {}, None, None, npz(folder, images=images, labels=np.arange(60) % 3)
    if name in ("arrays", "table", "huggingface"):
        return {}, None, None, own_numbers_or_saved(name, folder)
    return {}, None, None, spec


@pytest.mark.slow
@pytest.mark.parametrize("name", datasets)
def test_a_data_set_keeps_its_contract(name: str, tmp_path: Path) -> None:
    other, folder, checksums, spec = _here(name, tmp_path)
    entry = replace(datasets[name], **other)
    complete(DATASET.check(name, Trial(entry, (folder,) if folder else (), spec, checksums)))
