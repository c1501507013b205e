"""Weights made elsewhere: which tensor goes where, what is refused and how, and that what follows is what it would be
had they been trained here. Of real published networks: that their authors' numbers are met."""

from __future__ import annotations

import difflib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from real_data import mnist_logits, real
from safetensors.numpy import load_file, save_file
from serving import Served, served
from torch import nn

from modescape import plugins, registry
from modescape.architectures.building import build
from modescape.architectures.torchvision_models import resembling
from modescape.cli import main
from modescape.drawing.reading import FigureNotReady
from modescape.errors import InvalidInput, StageError
from modescape.executor import Executor
from modescape.imported.door import Level
from modescape.imported.ensemble import Recipe, Tensors
from modescape.imported.inputs import inputs
from modescape.imported.reading import read
from modescape.imported.saying import said
from modescape.imported.stated import is_met
from modescape.imported.tensor_names import Keys, Slot, by_name, by_order
from modescape.imported.tensors import header_of
from modescape.imported.torch_files import Converter
from modescape.importing_weights import (
    Choices,
    GivenWeights,
    NamedFile,
    bring_in_weights,
    data_of,
    files_to_send,
    import_weights,
    look,
    members_below,
    members_from,
    unread,
)
from modescape.laboratory import Lab, Laboratory, run, started
from modescape.records import Role, StageState
from modescape.registry import architectures
from modescape.science.data import Shape
from modescape.science.data.tensors import Inputs, Split, transform_of
from modescape.science.predictions import predict
from modescape.settings import Settings
from modescape.spec import check, parse
from modescape.spec_parts import NetworkSpec
from modescape.stages.given_weights import place_file

pytestmark = pytest.mark.usefixtures("few_redraws")

DIGITS: dict[str, Any] = {
    "dataset": "digits", "input_scale": "unit", "train_images": 200, "validation_images": 60, "test_images": 300,
}  # fmt: skip
TRAINED: dict[str, Any] = {
    "data": DIGITS, "network": {"architecture": "mlp"}, "ensemble": {"runs": 2},
    "training": {"epochs": 4, "batch_size": 25, "snapshots": 4, "learning_rate": 0.005},
}  # fmt: skip
SHAPE = Shape(1, 8, 8, 10)


# -- by name, by order -------------------------------------------------------------------------------------------------


def slots(*given: tuple[str, tuple[int, ...]]) -> list[Slot]:
    return [Slot(name, shape) for name, shape in given]


NET = slots(("stem.weight", (4, 3)), ("stem.bias", (4,)), ("norm.running_mean", (4,)), ("norm.num_batches_tracked", ()))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.", "module.model.", "_orig_mod.module."])
def test_prefixes_that_wrappers_put_before_names_are_no_part_of_them(prefix: str) -> None:
    found = [Slot(prefix + one.name, one.shape) for one in reversed(NET)]
    assert by_name(NET, found).pairs == tuple((one.name, prefix + one.name) for one in NET)


def test_a_prefix_of_anybodys_own_is_known_by_every_name_having_it() -> None:
    found = [Slot(f"resnet.inner.{one.name}", one.shape) for one in NET]
    assert by_name(NET, found).pairs == tuple((one.name, f"resnet.inner.{one.name}") for one in NET)
    one_layer = slots(("head.weight", (3,)), ("head.bias", (3,)))
    assert by_name(one_layer, one_layer).is_plain


@pytest.mark.slow
def test_a_header_of_very_many_names_is_refused_without_comparing_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = slots(*((f"t{i}.weight", (3,)) for i in range(50_000)))
    compared: list[int] = []
    near = difflib.get_close_matches

    def counted(name: str, names: list[str], *how: Any) -> list[str]:
        compared.append(len(names))
        return near(name, names, *how)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    with pytest.raises(InvalidInput, match=r"the file has no first\.weight"):
        by_name(slots(("first.weight", (3,))), found)
    assert max(compared) <= 2000


def test_a_name_that_is_the_same_goes_before_one_that_is_but_for_a_prefix() -> None:
    wanted = slots(("net.0.weight", (2, 2)))
    assert by_name(wanted, slots(("net.0.weight", (2, 2)))).pairs == (("net.0.weight", "net.0.weight"),)
    with pytest.raises(InvalidInput, match=r"has no place for 0\.weight"):
        by_name(wanted, slots(("net.0.weight", (2, 2)), ("0.weight", (2, 2))))


def test_counters_of_batches_may_be_missing_left_over_or_of_one_number() -> None:
    without = [one for one in NET if not one.is_counter]
    assert by_name(NET, without).untouched == ("norm.num_batches_tracked",)
    assert by_name(without, NET).left_out == ("norm.num_batches_tracked",)
    found = [*without, Slot("norm.num_batches_tracked", (1,))]
    assert len(by_name(NET, found).pairs) == len(NET)


def test_what_is_missing_left_over_or_misshapen_is_named_with_what_is_nearest() -> None:
    found = slots(("stem.weights", (4, 3)), ("stem.bias", (5,)), ("norm.running_mean", (4,)))
    with pytest.raises(InvalidInput) as refused:
        by_name(NET, found)
    told = str(refused.value)
    assert "the file has no stem.weight [4, 3]; nearest in the file: stem.weights" in told
    assert "the network has no place for stem.weights [4, 3]; nearest in the network: stem.weight" in told
    assert "stem.bias is [5]" in told
    assert {problem.field for problem in refused.value.problems} == {"keys"}


def test_matrices_of_another_framework_are_said_to_be_turned_round() -> None:
    with pytest.raises(InvalidInput, match="turned round"):
        by_name(slots(("a.weight", (4, 3))), slots(("a.weight", (3, 4))))


def test_by_order_layers_meet_those_of_the_same_tensors_in_natural_order() -> None:
    wanted = slots(*((f"blocks.{i}.{leaf}", (3,)) for i in range(12) for leaf in ("weight", "bias")))
    found = sorted(
        slots(*((f"layer{i}.bn.{leaf}", (3,)) for i in range(12) for leaf in ("weight", "bias"))), key=lambda s: s.name
    )
    pairs = dict(by_order(wanted, found).pairs)
    assert all(pairs[f"blocks.{i}.{leaf}"] == f"layer{i}.bn.{leaf}" for i in range(12) for leaf in ("weight", "bias"))


def test_by_order_keeps_the_order_that_a_file_states() -> None:
    wanted = slots(("first.weight", (3,)), ("second.weight", (3,)))
    found = slots(("z.weight", (3,)), ("a.weight", (3,)))
    assert by_order(wanted, found).pairs == (("first.weight", "z.weight"), ("second.weight", "a.weight"))


def test_by_order_another_number_of_layers_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"1 layers of the file have weight \[3\]"):
        by_order(slots(("a.weight", (3,)), ("b.weight", (3,))), slots(("x.weight", (3,))))


def test_where_names_do_not_fit_and_the_order_does_that_is_said() -> None:
    with pytest.raises(InvalidInput, match="keys: by-order"):
        by_name(slots(("a.weight", (3,))), slots(("x.weight", (3,))))


# -- stated accuracies, input scales -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "right", "met"),
    [
        (".9173", 9173, True), (".9173", 9172, True), (".9173", 9174, True), (".9173", 9171, False),
        ("91.73%", 9173, True), ("91.7 %", 9165, True), ("91.7 %", 9164, True), ("91.7 %", 9163, False),
        ("0.92", 9150, True), ("0.92", 9148, False), ("1", 9999, True), ("100%", 9949, True), ("0", 9900, False),
    ],
)  # fmt: skip
def test_an_accuracy_is_met_to_its_digits_and_within_one_image(stated: str, right: int, met: bool) -> None:
    assert is_met(stated, right, 10_000) is met


def test_a_given_mean_and_deviation_scale_as_torchvision_does() -> None:
    from torchvision.transforms import v2

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 6, 6), np.uint8))
    split = Split(images, torch.zeros(5, dtype=torch.int64))
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = v2.Normalize(mean, deviation)(images.float() / 255)
    found = transform_of(Inputs("mean-std", mean, deviation), split)(images)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=2e-6)
    turned = transform_of(Inputs("mean-std", mean, deviation, "bgr"), split)(images)
    torch.testing.assert_close(turned, expected[:, [2, 1, 0]], atol=2e-6, rtol=2e-6)
    bytes_ = transform_of(Inputs("raw255", order="bgr"), split)(images)
    assert torch.equal(bytes_, images[:, [2, 1, 0]].float())


def test_input_scales_go_by_the_names_people_have_for_them() -> None:
    assert inputs("unit") == {"input_scale": "unit"}
    assert inputs("mnist") == {"input_scale": "mean-std", "mean": [0.1307], "deviation": [0.3081]}
    assert inputs("mean=.5,.4,.3;std=.2+bgr") == {
        "input_scale": "mean-std", "mean": [0.5, 0.4, 0.3], "deviation": [0.2], "channel_order": "bgr",
    }  # fmt: skip
    for wrong in ("half", "mean=.5", "mean=a;std=b", "mean-std"):
        with pytest.raises(InvalidInput):
            inputs(wrong)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"input_scale": "mean-std"}, "data.mean"), ({"mean": [0.5]}, "data.mean"),
        ({"input_scale": "mean-std", "mean": [0.5], "deviation": [0]}, "data.deviation.0"),
    ],
)  # fmt: skip
def test_a_mean_belongs_to_its_input_scale(data: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse({"data": data})
    assert refused.value.field == field


def test_a_spec_that_says_nothing_of_weights_keeps_its_digest() -> None:
    plain = parse({})
    assert plain.digest() == parse({"source": "trained", "weights": None}).digest()
    assert not {"source", "weights"} & set(json.loads(plain.canonical()))
    assert not {"mean", "deviation", "channel_order"} & set(json.loads(plain.canonical())["data"])


# -- files of torch ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def convert() -> Iterator[Converter]:
    with Converter() as convert:
        yield convert


@pytest.mark.slow
@pytest.mark.parametrize("place", ["", "state_dict", "model", "model_state_dict"])
def test_a_state_dict_is_found_where_training_loops_put_it(convert: Converter, tmp_path: Path, place: str) -> None:
    state = {"b.weight": torch.arange(6.0).reshape(2, 3).T, "a.bias": torch.ones(2, dtype=torch.bfloat16)}
    torch.save({place: state, "epoch": 3} if place else state, tmp_path / "a.pt")
    told = convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert told.inside == place
    found = load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(found["b.weight"], np.arange(6.0).reshape(2, 3).T)
    assert found["a.bias"].dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beside", "place"),
    [
        ({"generator": "HERE", "epoch": 3}, "generator"),
        ({"ema": {"module": "HERE", "decay": 0.9}}, "ema/module"),
        ({"state_dict": "HERE", "accuracy": torch.tensor(0.5)}, "state_dict"),
        ({"mine": "HERE", "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}}, "mine"),
    ],
)
def test_a_state_dict_is_found_under_any_key_where_it_is_the_only_one(
    convert: Converter, tmp_path: Path, beside: dict[str, Any], place: str
) -> None:
    def filled(one: Any) -> Any:
        return {key: filled(value) for key, value in one.items()} if isinstance(one, dict) else (
            {"a.weight": torch.ones(2)} if isinstance(one, str) else one)  # fmt: skip

    torch.save(filled(beside), tmp_path / "a.pt")
    assert convert(tmp_path / "a.pt", tmp_path / "a.safetensors").inside == place
    assert list(load_file(tmp_path / "a.safetensors")) == ["a.weight"]


@pytest.mark.slow
def test_of_several_places_none_is_taken_and_the_lines_that_write_one_out_work(
    convert: Converter, tmp_path: Path
) -> None:
    state = {"a.weight": torch.ones(2)}
    torch.save({"teacher": state, "pupil": {"net.1": state}}, tmp_path / "a.pt")
    with pytest.raises(InvalidInput, match=r"several places \(teacher, pupil/net\.1\)") as refused:
        convert(tmp_path / "a.pt", tmp_path / "out.safetensors")
    lines = [line for line in str(refused.value).splitlines() if line.startswith("    ")]
    lines[-1] = lines[-1].rpartition(" (allowed")[0] or lines[-1]
    subprocess.run([sys.executable, "-c", "\n".join(map(str.strip, lines))], cwd=tmp_path, check=True)
    assert list(load_file(tmp_path / "a.safetensors")) == ["a.weight"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><title>404</title>", "a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "pointer of Git LFS"),
        (b"Not found", "it is a text, which begins 'Not found'"),
        (b"", "it is empty"),
    ],
)
def test_what_a_download_left_in_place_of_a_checkpoint_is_called_what_it_is(
    convert: Converter, tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        convert(tmp_path / "a.pt", tmp_path / "out.safetensors")


def test_numbers_that_are_no_weights_are_not_taken_for_them(convert: Converter, tmp_path: Path) -> None:
    """Of complex numbers the real part, and of quantised ones those without their scale, would be other weights."""
    torch.save({"a.weight": torch.ones(2, dtype=torch.complex64)}, tmp_path / "a.pt")
    with pytest.raises(InvalidInput, match=r"'a\.weight' holds complex numbers"):
        convert(tmp_path / "a.pt", tmp_path / "out.safetensors")
    network = build(NetworkSpec(architecture="mlp"), SHAPE, seed=0)
    save_file(
        {name: value.numpy().astype(np.int8) for name, value in network.state_dict().items()},
        tmp_path / "b.safetensors",
    )
    with pytest.raises(InvalidInput, match="holds int8, as quantised weights do"):
        place_file(network, tmp_path / "b.safetensors", Keys.BY_NAME)


@pytest.mark.parametrize("order", ["alphabetical", "5", "[1, 2]"])
def test_what_else_a_file_calls_its_order_is_no_order_of_tensors(tmp_path: Path, order: str) -> None:
    network = build(NetworkSpec(architecture="mlp"), SHAPE, seed=0)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors", metadata={"order": order})
    assert len(place_file(network, tmp_path / "a.safetensors", Keys.BY_NAME).pairs) == len(state)


@pytest.mark.parametrize("length", [0x80 + 256 * number for number in range(1, 6)] + [0x10280, 0x4B50])
def test_a_file_whose_length_of_header_looks_like_a_pickle_or_an_archive_is_read(tmp_path: Path, length: int) -> None:
    header = b'{"weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(length)
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + np.array([1, 2], "<f4").tobytes())
    assert path.read_bytes()[:2] in (b"\x80\x01", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")
    assert [entry.shape for entry in header_of(Tensors.of(path, path.name)).entries] == [(2,)]


def test_archives_and_pickles_among_weights_are_refused_with_lines_for_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weight=np.ones(2, np.float32))
    (tmp_path / "b.safetensors").write_bytes(b"\x80\x04K\x01.")
    for name, words in (("a.npz", r'save_file\(dict\(np\.load\("a\.npz"\)\)'), ("b.safetensors", "it is a pickle")):
        with pytest.raises(InvalidInput, match=words):
            header_of(Tensors.of(tmp_path / name, name))


def test_a_pickle_of_more_than_tensors_is_refused_with_the_lines_that_convert_it_and_runs_nothing(
    convert: Converter,
    tmp_path: Path,
) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "harmed"),))

    for name, content in (("net.pt", nn.Linear(2, 2)), ("harm.pt", {"state_dict": {}, "x": Harm()})):
        torch.save(content, tmp_path / name)
        with pytest.raises(InvalidInput) as refused:
            convert(tmp_path / name, tmp_path / "out.safetensors")
        told = str(refused.value)
        assert "import torch; from safetensors.torch import save_file" in told
        assert f'torch.load("{name}", map_location="cpu", weights_only=False)' in told
    assert not (tmp_path / "harmed").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    ["resnet18", "resnext50_32x4d", "vit_b_16", "mobilenet_v2", "inception_v3",
     *(pytest.param(one, marks=pytest.mark.check) for one in ("wide_resnet50_2", "vgg11_bn", "densenet121"))],
)  # fmt: skip
def test_a_file_of_torchvision_is_known_by_the_names_of_its_tensors(model: str) -> None:
    from torchvision import models

    given: dict[str, Any] = {"aux_logits": False, "init_weights": False} if model == "inception_v3" else {}
    with torch.device("meta"):
        state = models.get_model(model, num_classes=7, **given).state_dict()
    slots = [Slot(f"module.{name}", tuple(value.shape)) for name, value in state.items()]
    assert resembling(slots) == model
    assert resembling(slots[1:]) == ""
    assert resembling([Slot(f"own.{slot.name}", slot.shape) for slot in slots[:3]]) == ""


@pytest.mark.slow
@pytest.mark.parametrize("keys", list(Keys))
def test_weights_of_torchvision_for_a_network_of_ours_are_refused_with_the_way_out(tmp_path: Path, keys: Keys) -> None:
    from torchvision import models

    state = {name: value.numpy() for name, value in models.resnet18(num_classes=10).state_dict().items()}
    save_file(state, tmp_path / "net.safetensors")
    shape = Shape(3, 8, 8, 10)
    ours = build(NetworkSpec(architecture="resnet18"), shape, seed=0)
    with pytest.raises(InvalidInput) as refused:
        place_file(ours, tmp_path / "net.safetensors", keys)
    way_out = """--architecture torchvision --options '{"model": "resnet18"}'"""
    assert way_out in str(refused.value), "which is all that a stage's error says"
    assert (refused.value.field, way_out in refused.value.problems[0].message) == ("architecture", True)
    assert len(refused.value.problems) > 1
    options = {"model": "resnet18"}
    theirs = build(NetworkSpec(architecture="torchvision", options=options), shape, seed=0)
    place_file(theirs, tmp_path / "net.safetensors", keys)
    narrow = build(NetworkSpec(architecture="torchvision", options=options), Shape(1, 8, 8, 10), seed=0)
    with pytest.raises(InvalidInput) as misshapen:
        place_file(narrow, tmp_path / "net.safetensors", keys)
    assert "torchvision" not in str(misshapen.value), "it is that network already"


class Whole(nn.Module):
    """A network of one's own, saved as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 1).to(memory_format=torch.channels_last)
        self.second = nn.Conv2d(2, 3, 1)
        self.second.weight = self.first.weight  # tied
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)


def ran(refused: InvalidInput, folder: Path) -> None:
    """Run the lines that a refusal gives, as whoever copies them does."""
    lines = [line.strip() for line in refused.problems[0].message.splitlines() if line.startswith("    ")]
    assert len(lines) >= 2
    known = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})"  # where the class of a network is
    subprocess.run([sys.executable, "-c", "\n".join([known, *lines])], cwd=folder, check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["a whole network", "a checkpoint", "weights in several places", "named otherwise"])
def test_lines_that_convert_weights_do_so(convert: Converter, tmp_path: Path, what: str) -> None:
    network, name = Whole(), 'a "net".pt'
    state = network.state_dict()
    content = {
        "a whole network": network,
        "a checkpoint": {"state_dict": {**state, "note": "x"}, "settings": Path("x")},
        "weights in several places": {"a": {"b": {**state, "note": "x"}}, "c": state},
        "named otherwise": {"state_dict": state},
    }[what]
    if what == "named otherwise":
        name = "net.safetensors"
    torch.save(content, tmp_path / name)
    reading = (
        partial(header_of, Tensors.of(tmp_path / name))
        if what == "named otherwise"
        else (partial(convert, tmp_path / name, tmp_path / "out.safetensors"))
    )
    with pytest.raises(InvalidInput) as refused:
        reading()
    ran(refused.value, tmp_path)
    written = "net-converted.safetensors" if what == "named otherwise" else 'a "net".safetensors'
    found = load_file(tmp_path / written)
    assert found.keys() == state.keys()
    for key, tensor in state.items():
        assert np.array_equal(found[key], tensor.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pkl", "joblib", "pt", "objects.npy", "h5", "mat", "npz"])
@pytest.mark.parametrize("place", ["", "run 0/"])
def test_lines_that_convert_outputs_do_so(
    tmp_path: Path, ending: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    import h5py
    import joblib
    import scipy.io

    outputs = np.random.default_rng(0).normal(size=(3, 40, 4)).astype(np.float32)
    monkeypatch.chdir(tmp_path)  # where a path as it was given leads to the file
    (tmp_path / place).mkdir(exist_ok=True)
    path = Path(f'{place}it\'s "{"net" if ending == "npz" else "outputs"}".{ending}')
    if ending == "pkl":
        path.write_bytes(pickle.dumps(list(outputs)))
    elif ending == "joblib":
        joblib.dump(outputs, path)
    elif ending == "pt":
        torch.save(torch.tensor(outputs, requires_grad=True), path)
    elif ending == "objects.npy":
        rows = np.empty(3, object)
        rows[:] = list(outputs)
        np.save(path, rows, allow_pickle=True)
    elif ending == "h5":
        with h5py.File(path, "w") as file:
            file["outputs"] = outputs
    elif ending == "mat":
        scipy.io.savemat(path, {"outputs": outputs})
    else:
        np.savez(path, outputs=outputs)
    named = str(path) if ending == "objects.npy" else None
    reading = partial(header_of, Tensors.of(path), str(path)) if ending == "npz" else partial(read, path, labels=named)
    with pytest.raises(InvalidInput) as refused:
        reading()
    ran(refused.value, tmp_path)
    if ending == "npz":
        assert np.array_equal(load_file(path.with_suffix(".safetensors"))["outputs"], outputs)
    else:
        target = path.with_name(f"{path.stem}-converted.npy") if ending == "objects.npy" else path.with_suffix(".npy")
        assert np.array_equal(np.load(target), outputs)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pkl", "joblib", "pt"])
def test_lines_that_convert_a_dict_of_outputs_and_labels_make_what_is_read_then(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    import joblib

    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    path, labels = Path(f"runs/all.{ending}"), np.arange(40) % 4
    outputs = np.random.default_rng(0).normal(size=(3, 40, 4)).astype(np.float32)
    found = {"logits": outputs, "labels": labels}
    if ending == "pkl":
        path.write_bytes(pickle.dumps(found))
    elif ending == "joblib":
        joblib.dump(found, path)
    else:
        torch.save({name: torch.tensor(one) for name, one in found.items()}, path)
    for given in (path, Path("runs")):
        with pytest.raises(InvalidInput) as refused:
            read(given)
        assert json.dumps(str(path)) in str(refused.value)
    ran(refused.value, tmp_path)
    one = read("runs/all.npz")
    assert np.array_equal(one.test.outputs.read(), outputs)
    assert np.array_equal(one.test.labels, labels)  # type: ignore[arg-type]


@pytest.mark.slow
def test_lines_that_convert_weights_name_the_file_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    for i in range(2):
        torch.save(nn.Linear(64, 10), tmp_path / "nets" / f"{i}.pt")
    choices = Choices("mlp", data_of("digits", None), {}, Keys.BY_NAME, Recipe.UNKNOWN, False, None, {})
    for given in (str(tmp_path / "nets"), str(tmp_path / "nets" / "*.pt")):
        with pytest.raises(InvalidInput) as refused:
            look(Settings(home=tmp_path / "home"), members_from(given), choices)
        assert f'torch.load("{tmp_path}/nets/0.pt"' in str(refused.value)
    members, _ = members_below(tmp_path / "nets")
    with pytest.raises(InvalidInput) as refused:
        look(Settings(home=tmp_path / "home"), members, choices)
    assert 'torch.load("0.pt"' in str(refused.value), "where that folder is a server's own"
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"PK\x03\x04 and no more", b"text"])
def test_damaged_files_and_other_pickles_are_refused_in_words(
    convert: Converter, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"a\.pth"):
        convert(tmp_path / "a.pth", tmp_path / "out.safetensors")


def test_a_file_without_weights_is_refused(convert: Converter, tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "a.pt")
    with pytest.raises(InvalidInput, match="no state dict is in it"):
        convert(tmp_path / "a.pt", tmp_path / "out.safetensors")


def test_a_file_that_unpacks_to_more_memory_than_weights_do_is_refused(convert: Converter, tmp_path: Path) -> None:
    """A pickle may ask for any amount of memory by a few bytes."""
    huge = torch.zeros(1).expand(40_000_000_000)  # 160 GB of one number
    torch.save({"w": huge}, tmp_path / "a.pt")
    torch.save({"w": torch.ones(1)}, tmp_path / "next.pt")
    with pytest.raises(InvalidInput, match=r"a\.pt"):
        convert(tmp_path / "a.pt", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    convert(tmp_path / "next.pt", tmp_path / "out.safetensors")  # only the file's own fork has ended


@pytest.mark.slow
def test_a_file_that_takes_too_long_is_given_up_and_the_next_one_read(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pt")
    with Converter() as convert:
        with pytest.raises(InvalidInput, match=r"a\.pt: reading it took longer than 0\.01 s"):
            convert(tmp_path / "a.pt", tmp_path / "a.safetensors", seconds=0.01)
        convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
        os.kill(convert._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        convert._process.wait()  # type: ignore[union-attr]
        convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert load_file(tmp_path / "a.safetensors")["w"] == load_file(tmp_path / "b.safetensors")["w"] == [1.0]


# -- the stages after it are those of trainings ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Two runs trained here."""
    return run(TRAINED, folder=tmp_path_factory.mktemp("trained"), progress=False)


@pytest.fixture(scope="module")
def checkpoints(trained: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their weights as another program would leave them: final ones, and snapshots by epoch."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for stage in trained.stages:
        if stage.kind == "train":
            of_run = folder / "snapshots" / f"{stage.params['run']}"
            of_run.mkdir(parents=True)
            for one in stage.result["extra"]["checkpoints"]:
                found = {f"module.{k}": np.array(v) for k, v in trained.artifacts.tensors(one["weights"]).items()}
                save_file(found, of_run / f"epoch-{one['epoch']}.safetensors")
            save_file(found, folder / f"{stage.params['run']}.safetensors")
    return folder


def brought(folder: Path, pattern: Path | str, **given: Any) -> Lab:
    given = {"architecture": "mlp", "data": DIGITS, "recipe": "same", "progress": False, "folder": folder, **given}
    lab = import_weights(str(pattern), **given)
    stopped = [f"{s.kind}/{s.key}: {s.error['message']}" for s in lab.stages if s.state != StageState.SUCCEEDED]
    assert not stopped
    return lab


@pytest.mark.slow
def test_weights_that_left_and_come_back_predict_to_the_bit(trained: Lab, checkpoints: Path, tmp_path: Path) -> None:
    lab = brought(tmp_path, checkpoints / "*.safetensors")
    own, theirs = trained.solutions(role=Role.OPTIMUM), lab.solutions(role=Role.OPTIMUM)
    for one, other in zip(own, theirs, strict=True):
        np.testing.assert_array_equal(trained.logits(one, "test"), lab.logits(other, "test"))
    for name in ("disagreement", "cosine", "cosine-reduced"):
        split = "test" if name == "disagreement" else ""
        before, after = trained.matrix(name, split), lab.matrix(name, split)
        assert before is not None
        assert after is not None
        places = [before.rows.index(one.number) for one in own]
        np.testing.assert_array_equal(before.values[np.ix_(places, places)], after.values)
    table = next(s for s in lab.stages if s.kind == "train").result["extra"]["keys"]
    assert ["first.weight", "module.first.weight"] in table["pairs"]
    assert [member["config"]["file"] for member in lab.experiment.provenance["members"]] == [
        "0.safetensors", "1.safetensors",
    ]  # fmt: skip


@pytest.mark.slow
def test_given_snapshots_make_trajectories_and_gaussians(checkpoints: Path, tmp_path: Path) -> None:
    lab = brought(
        tmp_path, checkpoints / "*.safetensors", snapshots=checkpoints / "snapshots",
        spec={"methods": [{"method": "swag", "spread": 3, "typical": 2, "options": {"columns": 3}},
                          {"method": "low-rank", "spread": 3, "typical": 2, "options": {"rank": 1}}],
              "weights": {"window": 1.0}},
    )  # fmt: skip
    along = [(s.index, s.epoch, s.role) for s in lab.solutions(run=0) if s.role != Role.SAMPLE]
    assert along[:5] == [(i, float(i), Role.CHECKPOINT) for i in range(5)]
    assert along[5] == (5, None, Role.OPTIMUM)
    kept = next(s for s in lab.stages if s.kind == "train").result["extra"]["snapshots"]
    assert len(kept) == 4  # never the initial weights
    drawn = [s for s in lab.solutions(run=0) if s.role == Role.SAMPLE]
    assert {s.method for s in drawn} == {"swag", "low-rank"}
    chain = next(s for s in lab.stages if s.kind == "chain").result["extra"]["kept"]
    assert [one["weights"] for one in chain] == [one["weights"] for one in kept]
    assert lab.figure("trajectories").data
    assert lab.figure("similarity-trajectory").data


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [False, True])
def test_nothing_is_chosen_on_images_that_may_have_been_trained_on(
    checkpoints: Path, tmp_path: Path, held_out: bool
) -> None:
    lab = brought(
        tmp_path, checkpoints / "*.safetensors", held_out=held_out,
        data={**DIGITS, "train_images": 77, "validation_images": 520},
        spec={"methods": [{"method": "random", "spread": 0, "typical": 3}], "evaluation": {"averaged": "fair"},
              "shift": {"corruptions": ["contrast"], "intensities": [1], "images": 100}},
    )  # fmt: skip
    asked = {"ensemble", "shift", *(["strength"] if held_out else [])}
    assert asked <= {stage.kind for stage in lab.stages}
    assert any(stage.kind == "strength" for stage in lab.stages) is held_out
    rows = lab.laboratory.store.results.group_measurements(lab.experiment.id)
    calibrated = {row.intensity for row in rows if row.metric == "nll-calibrated"}
    assert calibrated == ({None, 0, 1} if held_out else set())
    if not held_out:
        with pytest.raises(FigureNotReady, match=r"nobody has said .* \(`weights\.held"):
            lab.figure("ensembles", panel="nll-calibrated")
        with pytest.raises(FigureNotReady, match=r"nobody has said .*: the narrow samples are averaged"):
            lab.figure("strengths")


def test_gaussians_take_the_late_snapshots(checkpoints: Path) -> None:
    document = {
        "source": "weights", "data": DIGITS, "network": {"architecture": "mlp"}, "ensemble": {"runs": 1},
        "weights": {"epochs": [0, 10, 20, 30], "members": [{"weights": "0" * 64, "snapshots": ["1" * 64] * 4}]},
    }  # fmt: skip
    spec = parse(document)
    assert spec.weights is not None
    assert [spec.weights.epochs[i] for i in spec.weights.gaussian()] == [20, 30]
    assert spec.snapshots == 2


@pytest.mark.slow
def test_planes_lines_alignment_tunnels_ood_and_shift_are_ordinary_stages(checkpoints: Path, tmp_path: Path) -> None:
    lab = brought(
        tmp_path, checkpoints / "*.safetensors",
        spec={
            "methods": [{"method": "random", "spread": 3, "typical": 2}],
            "connectivity": {"points": 5, "images": 50},
            "tunnels": [{"method": "bezier", "epochs": 1, "images": 50, "triangles": False, "averaged": 3}],
            "ood": [{"dataset": "gaussian-noise", "images": 50, "members": 2}],
            "shift": {"corruptions": ["gaussian_noise"], "intensities": [1], "images": 100, "members": 2},
        },
    )  # fmt: skip
    for name in ("connectivity", "tunnel", "plane", "ood", "shift"):
        assert lab.figure(name).data


@pytest.mark.slow
def test_a_given_curve_is_drawn_and_its_mean_is_that_of_its_points(checkpoints: Path, tmp_path: Path) -> None:
    """The bend that makes the curve the straight line: the quadratic Bezier curve through the middle of its ends."""
    ends = [load_file(checkpoints / f"{i}.safetensors") for i in range(2)]
    bend = {name: (ends[0][name] + ends[1][name]) / 2 for name in ends[0]}
    save_file(bend, tmp_path / "bend.safetensors")
    lab = brought(tmp_path / "home", checkpoints / "*.safetensors", curve=tmp_path / "bend.safetensors")
    stage = next(s for s in lab.stages if s.kind == "tunnel")
    profile = lab.artifacts.array(stage.result["extra"]["profile"])
    np.testing.assert_allclose(profile[0], profile[1], atol=1e-5)  # the path is the line
    assert stage.result["extra"]["trained"]["steps"] == 0
    network = build(NetworkSpec(architecture="mlp"), SHAPE, seed=0)
    from modescape.datasets.loading import load

    splits = load(lab.spec.data, ())
    p = []
    for t in np.linspace(0, 1, 30):
        state = {
            k.removeprefix("module."): torch.from_numpy((1 - t) * ends[0][k] + t * ends[1][k]).float() for k in bend
        }
        network.load_state_dict(state)
        logits = predict(network, splits.test, splits.transform)
        p.append(torch.softmax(torch.from_numpy(logits).double(), -1).numpy())
    labels = splits.test.numpy_labels()
    expected = (np.mean(p, 0).argmax(-1) == labels).mean()
    found = {m.metric: m.value for m in lab.measurements(subject="tunnel/0/averaged")}
    assert found["accuracy"] == pytest.approx(expected, abs=1 / len(labels))
    assert found["nll"] == pytest.approx(-np.log(np.mean(p, 0)[range(len(labels)), labels]).mean(), abs=1e-5)


@pytest.mark.slow
def test_a_stated_accuracy_that_is_not_met_stops_the_run_and_names_the_scale_that_meets_it(
    trained: Lab, checkpoints: Path, tmp_path: Path
) -> None:
    optimum = trained.solutions(role=Role.OPTIMUM)[0]
    stated = f"{optimum.accuracy:.4f}"
    right = brought(tmp_path, checkpoints / "0.safetensors", expect_accuracy=stated)
    assert right.solutions(role=Role.OPTIMUM)[0].accuracy == optimum.accuracy
    lab = import_weights(
        checkpoints / "0.safetensors", architecture="mlp", data=DIGITS, inputs="raw255", expect_accuracy=stated,
        folder=tmp_path, progress=False,
    )  # fmt: skip
    stage = next(s for s in lab.stages if s.kind == "train")
    assert stage.state == StageState.FAILED
    assert stage.error["type"] == StageError.__name__
    assert f"and {stated} was stated" in stage.error["message"]
    assert "with the inputs unit" in stage.error["message"]


def test_a_folder_of_weights_is_a_member_a_file(tmp_path: Path) -> None:
    for name in ("run_10/last.safetensors", "run_2/last.safetensors", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [one.name for one in members_from(tmp_path)] == ["run_2", "run_10"]
    assert [one.name for one in members_from(str(tmp_path), member=r"run_(\d+)")] == ["2", "10"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=r"empty holds nothing.*\.safetensors") as refused:
        members_from(tmp_path / "empty")
    assert refused.value.field == "weights"


def _a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.pt")


def _a_link_out(folder: Path) -> None:
    (folder.parent / "elsewhere.pt").write_bytes(b"x")
    (folder / "link.pt").symlink_to(folder.parent / "elsewhere.pt")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (_a_pipe, "pipe.pt: it is a pipe"), (_a_link_out, "link.pt: it is a link that leads out of ckpt"),
        (lambda folder: (folder / "b.pt").mkdir(), "b.pt: it is a folder, and called like a file"),
        (lambda folder: _nested(folder / os.fsdecode(b"m\xff.pt")), r"ckpt: it holds a file called 'm\udcff.pt'"),
        (lambda folder: (folder / "a.safetensors").write_bytes(b"x"), "a.pt and a.safetensors are both of member 'a'"),
        (lambda folder: _nested(folder / "sub/c.pt"), "ckpt holds a.pt and sub/c.pt: which files are a member each?"),
    ],
)  # fmt: skip
def test_a_folder_of_weights_follows_the_rules_of_folders_of_predictions(
    odd: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "ckpt"
    _nested(folder / "a.pt")
    assert [one.name for one in members_from(folder)] == ["a"]
    odd(folder)
    with pytest.raises(InvalidInput) as refused:
        members_from(folder)
    assert said in str(refused.value)


def _nested(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_what_lies_beside_weights_and_is_none_is_told(checkpoints: Path, tmp_path: Path) -> None:
    for name in ("run_2/last.pt", "run_10/last.pt", "run_2/README", "config.json", ".hidden"):
        _nested(tmp_path / "ckpt" / name)
    assert unread(tmp_path / "ckpt") == ["config.json", "run_2/README"]
    assert unread([str(tmp_path / "ckpt" / "*" / "*.pt")]) == []
    here = started(tmp_path / "home", None)
    members = members_from(checkpoints / "0.safetensors")
    row = bring_in_weights(here.laboratory, members, Choices("mlp", DIGITS), name="one", unread=["config.json"])
    assert Lab(here.laboratory, row.slug).odd == ["Good to know: Not read: config.json"]


def test_a_conversion_is_told_and_what_an_earlier_version_kept_of_one_is_read() -> None:
    assert said("said", "a.pt: converted from torch") == said(Level.TOLD, "a.pt: converted from torch")


@pytest.mark.timeout(30)
def test_weights_that_are_named_are_files_and_each_once(tmp_path: Path) -> None:
    for name in ("m0.pt", "m1.pt", "more/m2.pt", "other/m0.pt"):
        _nested(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "gone.pt").symlink_to(tmp_path / "nothing.pt")

    def names(*given: str) -> list[str]:
        return [one.name for one in members_from([f"{tmp_path}/{one}" for one in given])]

    assert names("m?.pt", "more") == ["m0", "m1", "m2"]
    assert names("m1.pt", "m0.pt") == ["m1", "m0"]
    assert names("m0.pt", "other/m0.pt") == [tmp_path.name, "other"]
    for given, what in {
        ("m0.pt", "m0.pt"): "m0.pt: it is given twice", ("m0.pt", "m*.pt"): "m0.pt: it is given twice",
        ("more", "more/m2.pt"): "m2.pt: it is given twice", ("m0.pt", "pipe.pt"): "pipe.pt: it is a pipe",
        ("pipe.pt",): "pipe.pt: it is a pipe", ("*.pt",): "link that leads nowhere", ("m9.pt",): "no file of that name",
        ("m0.pt", "n*.pt"): "no file is there by that pattern",
    }.items():  # fmt: skip
        with pytest.raises(InvalidInput, match=what):
            names(*given)
    with pytest.raises(InvalidInput, match="it is a pipe, a socket or a device"):
        NamedFile.of(tmp_path / "pipe.pt")
    (tmp_path / "s" / "m0").mkdir(parents=True)
    os.mkfifo(tmp_path / "s" / "m0" / "5.pt")
    with pytest.raises(InvalidInput, match="it is a pipe, a socket or a device"):
        members_from(tmp_path / "m0.pt", snapshots=tmp_path / "s")


@pytest.mark.parametrize("order", [("a.pt", "b.pt", "c.pt"), ("c.pt", "a.pt", "b.pt"), ("x/1.pt", "x/2.pt", "x/0.pt")])
def test_a_server_finds_members_and_snapshots_as_they_were_sent_and_calls_them_as_they_are_called(
    order: tuple[str, ...], tmp_path: Path
) -> None:
    for name in order:
        _nested(tmp_path / name)
        _nested(tmp_path / "s" / Path(name).stem / "5.pt")
        (tmp_path / "s" / Path(name).stem / "5.pt").write_text(name)
    given = members_from([str(tmp_path / name) for name in order], snapshots=tmp_path / "s")
    there = tmp_path / "there"
    for name, path in files_to_send(given, None).items():
        assert PurePosixPath(name).name in (path.name, "5.pt")
        _nested(there / name)
        (there / name).write_bytes(path.read_bytes())
    found, _ = members_below(there)
    assert [one.name for one in found] == [one.name for one in given] == [Path(name).stem for name in order]
    assert [one.snapshots[5.0].path.read_text() for one in found] == list(order)


@pytest.mark.slow
def test_one_file_given_twice_is_one_function(checkpoints: Path, tmp_path: Path) -> None:
    file = checkpoints / "0.safetensors"
    members = [GivenWeights(f"{i}", NamedFile(f"{i}", path)) for i, path in
               enumerate((file, file, checkpoints / "1.safetensors"))]  # fmt: skip
    here = started(tmp_path, None)
    row = bring_in_weights(here.laboratory, members, Choices("mlp", DIGITS, recipe=Recipe.SAME), name="twice")
    done = here.finish(row, progress=False)
    assert list(done.failed) == [1]
    assert "one function given twice is one function" in done.failed[1]


@pytest.mark.slow
def test_members_of_unknown_recipe_get_no_words(checkpoints: Path, tmp_path: Path) -> None:
    lab = brought(tmp_path, checkpoints / "*.safetensors", recipe="unknown")
    told = lab.claims()
    assert told
    assert not [one for one in told if one.record.word is not None and one.record.p is not None]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"methods": [{"method": "swag"}]}, "weights.epochs"),
        ({"methods": [{"method": "low-rank", "options": {"rank": 1}}]}, "weights.epochs"),
        ({"methods": [{"method": "sgmcmc"}]}, "methods.0.method"),
        ({"seeds": {}}, "seeds"), ({"instability": {}}, "instability"),
        ({"tunnels": [{"bend": "0" * 64}]}, "tunnels.0.bend"),
        ({"ensemble": {"runs": 3}}, "ensemble.runs"),
    ],
)  # fmt: skip
def test_what_needs_the_recipe_or_snapshots_is_refused(more: dict[str, Any], field: str) -> None:
    from modescape.datasets.here import describe

    members = [{"weights": f"{i}" * 64} for i in range(2)]
    document = {
        "source": "weights", "data": DIGITS, "network": {"architecture": "mlp"}, "ensemble": {"runs": 2},
        "weights": {"members": members}, **more,
    }  # fmt: skip
    spec = parse(document)
    with pytest.raises(InvalidInput) as refused:
        check(spec, describe(spec.data, ()))
    assert field in [problem.field for problem in refused.value.problems]


def test_files_that_do_not_fit_are_refused_before_anything_is_stored(checkpoints: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"0\.safetensors: .*the file has no"):
        import_weights(
            checkpoints / "*.safetensors", architecture="small-cnn", data=DIGITS, folder=tmp_path, progress=False
        )
    assert not Laboratory(Settings(home=tmp_path)).store.experiments.page().items


def test_a_look_at_weights_is_told_to_programs(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(2):
        _nested(tmp_path / f"{i}.safetensors")
        (tmp_path / f"{i}.safetensors").write_bytes((checkpoints / f"{i}.safetensors").read_bytes())
    _nested(tmp_path / "README")
    arguments = ["import", "--weights", str(tmp_path), "--architecture", "mlp", "--data", json.dumps(DIGITS), "--look"]
    assert main([*arguments, "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert not told.err
    assert found["members"] == ["0", "1"]
    assert [one["name"] for one in found["files"]] == ["0.safetensors", "1.safetensors"]
    assert all(theirs == f"module.{ours}" for one in found["files"] for ours, theirs in one["table"])
    assert [one["sentence"] for one in found["odd"]] == ["Not read: README"]
    assert main(arguments) == 0
    assert "Good to know: Not read: README" in capsys.readouterr().out


def test_members_and_snapshots_are_found_by_names_and_numbers(tmp_path: Path) -> None:
    for member in ("run_2", "run_10"):
        (tmp_path / f"{member}.safetensors").touch()
        for epoch in (5, 10):
            path = tmp_path / "s" / member / f"{epoch}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found = members_from(
        tmp_path / "*.safetensors", member=r"(run_\d+)", snapshots=tmp_path / "s", expect_accuracy=[".9", ".8"]
    )
    assert [one.name for one in found] == ["run_2", "run_10"]
    assert [sorted(one.snapshots) for one in found] == [[5.0, 10.0]] * 2
    assert [one.accuracy for one in found] == [".9", ".8"]
    with pytest.raises(InvalidInput, match="1 accuracies for 2 members"):
        members_from(tmp_path / "*.safetensors", expect_accuracy=".9")


def test_a_spec_of_files_that_are_not_here_is_refused(store_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=store_url)
    document = {
        "source": "weights", "data": DIGITS, "network": {"architecture": "mlp"}, "ensemble": {"runs": 1},
        "weights": {"members": [{"weights": "0" * 64}]},
    }  # fmt: skip
    with pytest.raises(InvalidInput, match="there is no file 0000"):
        Laboratory(settings).create(document, name="nothing")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home")) as running:
        yield running


def test_a_spec_with_files_by_digest_can_be_posted(site: Served, checkpoints: Path) -> None:
    path = checkpoints / "0.safetensors"
    with path.open("rb") as content:
        info = site.laboratory.artifacts.put_tensor_file(content, "weights", 1)
    spec = {
        "source": "weights", "data": DIGITS, "network": {"architecture": "mlp"}, "ensemble": {"runs": 1},
        "weights": {"members": [{"weights": info.digest}]},
    }  # fmt: skip
    with site.client() as client:
        made = client.post("/api/experiments", json={"name": "posted", "spec": spec})
        assert made.status_code == 201, made.text
        assert made.json()["spec"]["weights"]["members"][0]["weights"] == info.digest
        page = client.get(f"/experiments/{made.json()['slug']}").text
        assert "weights of 1 member, made elsewhere" in page
        assert "1 member made elsewhere" in " ".join(page.split())
        lost = {**spec, "weights": {"members": [{"weights": "0" * 64}]}}
        refused = client.post("/api/experiments", json={"name": "lost", "spec": lost})
        assert refused.status_code == 422
        assert "there is no file 0000" in refused.text


INTERRUPTED = """
import sys, time
from pathlib import Path
from modescape.executor import Executor
from modescape.laboratory import Laboratory
from modescape.settings import Settings
from modescape.stages import given_weights

place = given_weights.place_file
def slowly(*given):
    found = place(*given)
    print("placed", flush=True)
    time.sleep(60)
    return found

given_weights.place_file = slowly
here = Laboratory(Settings(home=Path(sys.argv[1]), database_url=sys.argv[2], lease_seconds=1))
Executor(here.store, here.artifacts, here.settings).run_experiment(sys.argv[3])
"""


@pytest.mark.slow
def test_a_worker_killed_while_it_takes_weights_loses_nothing(
    store_url: str, checkpoints: Path, tmp_path: Path
) -> None:
    here = Laboratory(Settings(home=tmp_path, database_url=store_url, lease_seconds=1))
    members = members_from(checkpoints / "*.safetensors", snapshots=checkpoints / "snapshots")
    row = bring_in_weights(here, members, Choices("mlp", DIGITS), name="killed")
    worker = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path), store_url, row.id], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "placed\n"
    worker.kill()
    worker.wait()
    Executor(here.store, here.artifacts, here.settings).run_experiment(row.id)
    lab = Lab(here, row.id)
    assert {stage.state for stage in lab.stages} == {StageState.SUCCEEDED}
    assert [len(lab.solutions(run=r)) for r in range(2)] == [6, 6]


# -- real networks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def published() -> Iterator[None]:
    """The plug-in of the examples."""
    folder = str(Path(__file__).parent.parent / "examples" / "plugins")
    sys.path.insert(0, folder)
    registry.load()  # else what is kept were nothing, and ours would be gone with it
    before = dict(architectures.here)
    try:
        plugins.load(["published_networks"])
        yield
    finally:
        sys.path.remove(folder)
        sys.modules.pop("published_networks", None)
        plugins._FOUND.pop("published_networks", None)  # so that the next test loads it, too
        architectures.keep(before)


MEMBERS = (1, 2, 3, 5, 7, 10)
PRINTED = {  # by the author, of the first M members
    "error": ("2.07", "1.51", "1.43", "1.34", "1.27", "1.29"),
    "nll": (".074", ".051", ".049", ".043", ".040", ".040"),
    "brier": (".0313", ".0239", ".0229", ".0205", ".0196", ".0192"),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("published")
def test_real_mnist_networks_give_the_eighteen_numbers_that_their_author_printed(tmp_path: Path) -> None:
    folder = real("real/mnist-mlp200-ensemble")
    settings = Settings(home=tmp_path, data=f"{real('mnist').parent}")
    for m, *printed in zip(MEMBERS, *PRINTED.values(), strict=True):
        lab = import_weights(
            [folder / f"member-{i}.safetensors" for i in range(m)], architecture="mnist-mlp200", inputs="unit",
            data={"dataset": "mnist", "train_images": 1000, "validation_images": 0}, settings=settings, progress=False,
            name=f"first {m}", spec={"evaluation": {"embed_images": 10, "embed_runs": 1}},
        )  # fmt: skip
        found = _scores(lab, m)
        wrong = [
            (name, stated, value)
            for name, stated, value in zip(PRINTED, printed, found, strict=True)
            if f"{value:.{len(stated.partition('.')[2])}f}".lstrip("0") != stated
        ]
        assert not wrong
    for solution, other in zip(lab.solutions(role=Role.OPTIMUM), mnist_logits(), strict=True):
        np.testing.assert_allclose(lab.logits(solution, "test"), other, atol=2e-4)


def _scores(lab: Lab, members: int) -> tuple[float, float, float]:
    """Error in percent, nll and brier of the mean probability of all members on the test images."""
    if members == 1:
        number = lab.solutions(role=Role.OPTIMUM)[0].number
        accuracy, nll, brier = (lab.scores(metric, "test")[number] for metric in ("accuracy", "nll", "brier"))
    else:
        at = f"ensemble/independent/{members}"
        found = {m.metric: m.value for m in lab.measurements(subject=at) if m.split == "test"}
        accuracy, nll, brier = (float(found[metric] or 0.0) for metric in ("accuracy", "nll", "brier"))
    return 100 * (1 - accuracy), nll, brier


@pytest.mark.slow
@pytest.mark.usefixtures("published")
def test_a_real_resnet_has_the_accuracy_that_is_stated_of_it(tmp_path: Path) -> None:
    lab = import_weights(
        real("real/resnet20") / "resnet20-12fca82f.safetensors", architecture="resnet20-a", data="cifar10",
        inputs="imagenet", expect_accuracy="91.73%", settings=Settings(home=tmp_path, data=_cifar()), progress=False,
    )  # fmt: skip
    optimum = lab.solutions(role=Role.OPTIMUM)[0]
    assert optimum.accuracy == pytest.approx(0.9173, abs=1.0001e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("published")
def test_a_real_curve_keeps_its_accuracy_where_the_straight_line_loses_it(tmp_path: Path) -> None:
    folder = real("real/cifar10-smallcnn-curve")
    lab = import_weights(
        [folder / "start.safetensors", folder / "end.safetensors"], architecture="cifar-curve-cnn", data="cifar10",
        inputs="unit", expect_accuracy=[".8025", ".7918"], curve=folder / "bezier-control.safetensors",
        settings=Settings(home=tmp_path, data=_cifar()), progress=False,
    )  # fmt: skip
    ends = [one.number for one in lab.solutions(role=Role.OPTIMUM)]
    losses = lab.scores("nll", "test")
    assert [f"{losses[number]:.6f}" for number in ends] == ["0.587726", "0.607342"]
    found = {m.metric: m.value for m in lab.measurements(subject="tunnel/0/averaged")}
    assert found["accuracy"] == pytest.approx(0.8158, abs=1.0001e-4)
    stage = next(s for s in lab.stages if s.kind == "tunnel")
    path, straight = lab.artifacts.array(stage.result["extra"]["profile"])[:, 1, 1]  # accuracy on test images
    assert path.min() > 0.775
    assert straight[len(straight) // 2] == pytest.approx(0.121, abs=0.001)


def _cifar() -> str:
    """The folder with CIFAR-10, unpacked; the test says loudly that it did not run where there is none."""
    place = os.environ.get("MODESCAPE_DATA", "")
    if not (Path(place) / "cifar-10-batches-py").is_dir():
        pytest.skip("REAL DATA ABSENT, NOT CHECKED: MODESCAPE_DATA names no folder with cifar-10-batches-py")
    return place
