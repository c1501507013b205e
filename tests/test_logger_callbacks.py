"""Callbacks for other libraries' loops, in those libraries where they are installed: what is logged is what the library
logged, and what is kept is what the trained model says and weighs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

import modescape as ms
from modescape.logger.spool import SpooledMember, spools
from modescape.settings import Settings

N, D, K, EPOCHS = 96, 5, 3, 4
rng = np.random.default_rng(0)
LABELS = rng.integers(0, K, N)
INPUTS = (rng.normal(size=(N, D)) + np.eye(K, D)[LABELS]).astype(np.float32)


@pytest.fixture
def logged(tmp_path: Path) -> Callable[[], tuple[ms.ensemble, SpooledMember]]:
    """A member to be told, and its folder."""

    def begin() -> Any:
        e = ms.ensemble("library", LABELS, settings=Settings(home=tmp_path / "home"))
        m = e.member(seed=7)
        (spooled,) = spools(tmp_path / "home" / "spool")[0].members
        return m, spooled

    return begin


def kept(member: SpooledMember, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(member.files[name])
    return array


@pytest.mark.slow
def test_lightning_tells_of_its_losses_and_leaves_its_module(logged: Any, tmp_path: Path) -> None:
    import lightning.pytorch as lightning
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from modescape.logger.lightning import LightningMember

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(D, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, K))

        def forward(self, x: Any) -> Any:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
            self.log("train/loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("validation/accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    loader = DataLoader(TensorDataset(torch.tensor(INPUTS), torch.tensor(LABELS)), batch_size=32)
    m, member = logged()
    module = Module()
    with m:
        trainer = lightning.Trainer(
            max_epochs=EPOCHS, callbacks=[LightningMember(m, lambda it: it(torch.tensor(INPUTS)), every=2)],
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, log_every_n_steps=1,
            enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, loader, loader)
    module.eval()
    assert np.array_equal(kept(member, "test.logits.npy"), module(torch.tensor(INPUTS)).detach().numpy())
    assert kept(member, "trajectory.epochs.npy").tolist() == [2.0, EPOCHS]
    weights = load_file(member.files["weights.safetensors"])
    assert {name: one.tolist() for name, one in weights.items()} == {
        name: one.tolist() for name, one in module.state_dict().items()
    }
    curves = member.curves()
    assert curves["train/loss"][:, 0].tolist() == list(range(1, 3 * EPOCHS + 1))
    assert np.isfinite(curves["train/loss"][:, 1]).all()
    assert curves["validation/accuracy"][-1, 1] == pytest.approx(
        float((kept(member, "test.logits.npy").argmax(1) == LABELS).mean())
    )


def for_hugging_face() -> tuple[Any, list[dict[str, Any]], dict[str, Any]]:
    """A model as its Trainer takes them, rows to train it on, and the batch that it is asked."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(D, K)

        def forward(self, x: Any, labels: Any = None) -> Any:
            logits = self.layer(x)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    rows = [{"x": x, "labels": int(y)} for x, y in zip(INPUTS, LABELS, strict=True)]
    return Model(), rows, {"x": torch.tensor(INPUTS), "labels": torch.tensor(LABELS)}


@pytest.mark.slow
def test_the_trainer_of_hugging_face_tells_what_it_logs_and_leaves_its_model(logged: Any, tmp_path: Path) -> None:
    import transformers

    from modescape.logger.transformers import TrainerMember

    m, member = logged()
    model, rows, test = for_hugging_face()
    with m:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"), num_train_epochs=EPOCHS, per_device_train_batch_size=32, logging_steps=1,
            report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        callback = TrainerMember(m, lambda it: it(**test)["logits"], every=1)
        trainer = transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[callback])
        trainer.train()
    assert np.array_equal(kept(member, "test.logits.npy"), model(**test)["logits"].detach().numpy())
    assert kept(member, "trajectory.epochs.npy").tolist() == [1.0, 2.0, 3.0, 4.0]
    assert load_file(member.files["weights.safetensors"])["layer.bias"].tolist() == model.layer.bias.tolist()
    logs = {one["step"]: one["loss"] for one in trainer.state.log_history if "loss" in one}
    curve = member.curves()["loss"]
    assert {int(step): value for step, value, _ in curve} == pytest.approx(logs)


def test_lightning_tells_a_number_at_the_step_where_it_was_measured_and_nowhere_else(
    logged: Any, tmp_path: Path
) -> None:
    import lightning.pytorch as lightning
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from modescape.logger.lightning import LightningMember

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(D, K)

        def training_step(self, batch: Any, index: int) -> Any:
            if index == 0:
                self.log("first", 5.0)  # the same number each time it is measured
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def on_train_batch_end(self, *_: Any) -> None:
            self.log("after", float(self.trainer.global_step))

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("validation", float(self.trainer.global_step))

        def on_validation_epoch_end(self) -> None:
            self.log("validated", float(self.trainer.global_step))

        def on_train_epoch_end(self) -> None:
            self.log("epoch", float(self.trainer.global_step))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    loader = DataLoader(TensorDataset(torch.tensor(INPUTS), torch.tensor(LABELS)), batch_size=32)  # 3 batches
    m, member = logged()
    module = Module()
    with m:
        trainer = lightning.Trainer(
            max_epochs=EPOCHS, callbacks=[LightningMember(m, lambda it: it.net(torch.tensor(INPUTS)))],
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, check_val_every_n_epoch=2,
        )  # fmt: skip
        trainer.fit(module, loader, loader)
    steps = {name: curve[:, 0].tolist() for name, curve in member.curves().items()}
    assert steps == {
        "first": [1, 4, 7, 10],
        "after": list(range(1, 13)),
        "validation": [6, 12],
        "validated": [6, 12],
        "epoch": [3, 6, 9, 12],
    }
    for name, curve in member.curves().items():
        assert name == "first" or curve[:, 0].tolist() == curve[:, 1].tolist(), "each says its step"


@pytest.mark.slow
def test_the_trainer_of_hugging_face_puts_the_best_model_back_and_the_member_says_what_that_says(
    logged: Any, tmp_path: Path
) -> None:
    import torch
    import transformers

    from modescape.logger.transformers import TrainerMember

    m, member = logged()
    model, rows, test = for_hugging_face()
    asked: list[NDArray[Any]] = []

    def predict(it: Any) -> Any:
        with torch.no_grad():
            asked.append(it(**test)["logits"].numpy().copy())
        return asked[-1]

    with m:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"), num_train_epochs=3, per_device_train_batch_size=32, learning_rate=0.1,
            report_to=[], save_strategy="epoch", eval_strategy="epoch", use_cpu=True, disable_tqdm=True,
            load_best_model_at_end=True, metric_for_best_model="eval_loss", greater_is_better=True,  # so the first
        )  # fmt: skip
        callback = TrainerMember(m, predict, every=1)
        transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, callbacks=[callback]).train()
    assert len(asked) == 4
    assert np.abs(asked[2] - asked[3]).max() > 0.01, "else nothing was put back"
    assert np.array_equal(kept(member, "test.logits.npy"), model(**test)["logits"].detach().numpy())
    assert load_file(member.files["weights.safetensors"])["layer.bias"].tolist() == model.layer.bias.tolist()
    assert kept(member, "trajectory.epochs.npy").tolist() == [1.0, 2.0, 3.0]


class Restored:
    """What a callback for any loop does at the end: it puts back the weights of an epoch before."""

    def __init__(self) -> None:
        self.weights = 0

    def state_dict(self) -> dict[str, NDArray[Any]]:
        return {"weight": np.array([self.weights])}

    def says(self) -> NDArray[Any]:
        return np.full((N, K), float(self.weights), np.float32)


@pytest.mark.parametrize("every", [0, 1, 2, 3])
@pytest.mark.parametrize("best", range(1, EPOCHS + 1))
def test_a_member_says_what_the_weights_say_that_it_leaves(logged: Any, every: int, best: int) -> None:
    from modescape.logger.loops import Loop

    m, member = logged()
    model = Restored()
    with m:
        loop = Loop(m, lambda it: it.says(), every)
        for epoch in range(1, EPOCHS + 1):
            model.weights = epoch
            loop.epoch(epoch, model)
        model.weights = best
        loop.end(model, model)
    assert load_file(member.files["weights.safetensors"])["weight"].tolist() == [best]
    assert (kept(member, "test.logits.npy") == best).all()
    before = [epoch for epoch in range(1, EPOCHS) if every and epoch % every == 0]
    assert ("trajectory.epochs.npy" in member.files) == bool(before)
    if before:
        assert kept(member, "trajectory.epochs.npy").tolist() == [*before, EPOCHS]  # and of the member itself
        assert kept(member, "trajectory.test.logits.npy")[:, 0, 0].tolist() == before


def test_a_loop_that_is_called_again_goes_on_counting(logged: Any) -> None:
    from modescape.logger.loops import Loop

    m, member = logged()
    model = Restored()
    with m:
        loop = Loop(m, lambda it: it.says(), 1)
        for epoch in (1, 2, 3, 1, 2):  # as of two calls of Keras' fit
            model.weights += 1
            loop.epoch(epoch, model)
            if epoch == 3:
                loop.end(model, model)
        loop.end(model, model)
    assert (kept(member, "test.logits.npy") == 5).all()
    assert kept(member, "trajectory.epochs.npy").tolist() == [1, 2, 3, 4, 5]


def test_keras_puts_the_best_weights_back_and_the_member_says_what_those_say(
    logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    import keras

    from modescape.logger.keras import KerasMember

    model = keras.Sequential([keras.layers.Input((D,)), keras.layers.Dense(K)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    # the first epoch is the best of a curve that is said to rise
    best = keras.callbacks.EarlyStopping(monitor="loss", mode="max", patience=99, restore_best_weights=True)
    asked: list[NDArray[Any]] = []

    def predict(it: Any) -> NDArray[Any]:
        asked.append(it.predict(INPUTS, verbose=0))
        return asked[-1]

    m, member = logged()
    with m:
        callbacks = [best, KerasMember(m, predict, every=1)]
        model.fit(INPUTS, LABELS, batch_size=32, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    assert np.abs(asked[EPOCHS - 1] - asked[0]).max() > 0.01, "else nothing was put back"
    assert np.array_equal(kept(member, "test.logits.npy"), model.predict(INPUTS, verbose=0))
    assert np.array_equal(kept(member, "test.logits.npy"), asked[0])
    assert kept(member, "trajectory.epochs.npy").tolist() == [1.0, 2.0, 3.0, 4.0]


def test_keras_tells_of_batches_and_epochs_and_leaves_its_model(logged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    import keras

    from modescape.logger.keras import KerasMember

    model = keras.Sequential([keras.layers.Input((D,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(K)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    m, member = logged()
    with m:
        callback = KerasMember(m, lambda it: it.predict(INPUTS, verbose=0), every=2)
        history = model.fit(
            INPUTS, LABELS, batch_size=32, epochs=EPOCHS, verbose=0, callbacks=[callback],
            validation_data=(INPUTS, LABELS),
        )  # fmt: skip
    assert np.array_equal(kept(member, "test.logits.npy"), model.predict(INPUTS, verbose=0))
    assert kept(member, "trajectory.epochs.npy").tolist() == [2.0, EPOCHS]
    weights = load_file(member.files["weights.safetensors"])
    assert len(weights) == len(model.weights)
    assert [one.shape for one in weights.values()] != []
    curves = member.curves()
    assert curves["loss"][:, 0].tolist() == list(range(1, 3 * EPOCHS + 1))
    assert curves["epoch/val_accuracy"][:, 1].tolist() == pytest.approx(history.history["val_accuracy"])
    assert curves["epoch/val_accuracy"][:, 0].tolist() == [3.0, 6.0, 9.0, 12.0]
    assert json.loads((member.folder / "member.json").read_text())["seed"] == 7


def test_keras_numbers_its_layers_through_a_process_and_members_have_the_same_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    import keras

    from modescape.logger.keras import fresh

    def paths() -> list[str]:
        layers = [keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dense(K, name="head")]
        model = keras.Sequential([keras.layers.Input((D,)), *layers[:1], keras.layers.Dense(8), *layers[1:]])
        return [one.path for one in model.weights]

    first, second = paths(), paths()
    assert first != second, "else there is nothing to mend"
    assert fresh(first) == fresh(second)
    assert len(set(fresh(first))) == len(first)
    assert fresh(second)[0] == "sequential/dense/kernel"
    assert fresh(second)[2] == "sequential/dense_1/kernel"
    assert fresh(second)[-1] == "sequential/head/bias"
