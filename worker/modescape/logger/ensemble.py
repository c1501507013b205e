"""A training loop of one's own tells Modescape as it goes.

    with ms.ensemble("wrn", labels=y, recipe="same", planned=20, server="https://lab.example", token=...) as e:
        for seed in range(20):
            with e.member(seed=seed, config={"width": 4}) as m:
                for epoch in range(200):
                    m.log(step, loss=..., accuracy=...)
                m.predictions(test=logits, ood={"svhn": other})
                m.weights(model)

With `server` it goes to a running server while it is trained, and is sealed when all that were planned are there;
without one it becomes an experiment in a home on this machine when the block ends, and `e.lab` is what `ms.analyse`
gives. Everything is on this machine's disk first (`spool`): neither a server that is away nor a process that is killed
loses it.
"""

from __future__ import annotations

import getpass
import operator
import socket
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from modescape import names as names_
from modescape.errors import Conflict, InvalidInput
from modescape.imported import parts
from modescape.imported.arrays import Array, refuse, stacked
from modescape.imported.digest import FILE_OF
from modescape.imported.ensemble import TEST, VALIDATION, OutputKind, Recipe
from modescape.imported.memory import ArrayLike, ShiftKey, WithLabels, array_of, ood_place, shift_place, tensors_of
from modescape.imported.two_arrays import kind_of
from modescape.laboratory import Lab
from modescape.logger.bringing import bring
from modescape.logger.delivery import Courier, Delivery
from modescape.logger.spool import About, Spool, SpooledMember
from modescape.sending import ServerDoor
from modescape.settings import Settings, read_settings

MOST_MEMBERS = 1000
_LONGEST = 100  # characters of a curve's name and a member's id
AT_EXIT = 60.0  # seconds that a server may be away at the end, until the rest stays in the spool


class MemberLog:
    """One member, while it is trained. Its end without an error adds it to the ensemble."""

    def __init__(self, ensemble: EnsembleLog, member: SpooledMember) -> None:
        self._ensemble, self._member = ensemble, member
        self._epochs: dict[float, int] = {}
        self._curves: set[str] = set()

    @property
    def id(self) -> str:
        return self._member.id

    def log(self, step: int, values: Mapping[str, float] | None = None, /, **more: float) -> None:
        """Numbers of one step, by name: `m.log(7, loss=.3)`, `m.log(7, {"train/loss": .3})`. Those that are not finite
        are gaps in the curve; of two at one step the later counts. Raises InvalidInput for what is no number."""
        found = {name: _number(name, value) for name, value in {**(values or {}), **more}.items()}
        for name in found.keys() - self._curves:
            _check_name(name, "curve")
            self._curves.add(name)
        if found:
            self._member.log(_step(step), found)

    def predictions(
        self,
        epoch: float | None = None,
        *,
        test: ArrayLike,
        validation: ArrayLike | None = None,
        ood: Mapping[str, ArrayLike] | None = None,
        shift: Mapping[ShiftKey, WithLabels] | None = None,
    ) -> None:
        """What it says of the examples, [N, K] ([N] of labels). Called with epochs, the last of them is the member, and
        those before it are its trajectory on the test set; without one, it is the member. The other sets count as they
        were given last. validation: needs `validation_labels` of the ensemble; ood: by the set's name; shift: by (type,
        intensity), and as (outputs, labels) where its images are others. Raises InvalidInput naming what does not fit.
        """
        at, given = float("inf") if epoch is None else _epoch(epoch), self._outputs("test", test, TEST)
        if not self._epochs and self._ensemble.kind is OutputKind.LOGITS:
            self._tell_kind(given)
        self._epochs[at] = self._epochs.get(at, len(self._epochs))
        values = np.ascontiguousarray(given.read())
        self._member.keep(f"epochs/{self._epochs[at]}.npy", lambda file: np.save(file, values), beside=True)
        if validation is not None:
            self._keep(VALIDATION, self._outputs("validation", validation, VALIDATION))
        for name, one in (ood or {}).items():
            self._keep(ood_place(name), self._outputs(f"ood[{name!r}]", one))
        for key, one in (shift or {}).items():
            place, pair = shift_place(key), isinstance(one, tuple) and len(one) == 2
            self._keep(place, self._outputs(f"shift[{key!r}]", one[0] if pair else one, None if pair else TEST))
            if pair:  # images of its own
                labels = parts.true_labels(array_of(f"the labels of shift[{key!r}]", one[1]))
                self._save(f"{place}.labels.npy", labels)

    def weights(self, model: Any) -> None:
        """Its weights, of the model that said the last predictions: a torch module or whatever has a `state_dict`,
        tensors by name, or the path of a .safetensors file. Raises InvalidInput."""
        given = model.state_dict() if callable(getattr(model, "state_dict", None)) else model
        tensors = tensors_of(self.id, given)

        def write(file: IO[bytes]) -> None:
            with tensors.open() as content:
                while block := content.read(1 << 20):
                    file.write(block)

        self._member.keep("weights.safetensors", write)

    def samples(
        self,
        method: str,
        test: ArrayLike,
        *,
        strength: ArrayLike | None = None,
        centre: ArrayLike | None = None,
        validation: ArrayLike | None = None,
        ood: Mapping[str, ArrayLike] | None = None,
        shift: Mapping[ShiftKey, ArrayLike] | None = None,
    ) -> None:
        """Functions that a method drew around it: [S, N, K] on every set, strength [S], centre [N, K] on the test set
        (see `ms.Samples`). Raises InvalidInput naming what does not fit."""
        ood_place(method)  # whose name has to do as this one
        below, of = f"samples/{method}", f"samples({method!r})"
        self._keep(f"{below}/{TEST}", self._outputs(of, test, TEST, drawn=True))
        if validation is not None:
            self._keep(f"{below}/{VALIDATION}", self._outputs(f"{of}.validation", validation, VALIDATION, drawn=True))
        for name, one in (ood or {}).items():
            self._keep(f"{below}/{ood_place(name)}", self._outputs(f"{of}.ood[{name!r}]", one, drawn=True))
        for key, one in (shift or {}).items():
            self._keep(f"{below}/{shift_place(key)}", self._outputs(f"{of}.shift[{key!r}]", one, TEST, drawn=True))
        if centre is not None:
            self._keep(f"{below}/centre/{TEST}", self._outputs(f"{of}.centre", centre, TEST))
        if strength is not None:
            found = np.asarray(array_of(f"{of}.strength", strength).read(), np.float64)
            self._save(f"{below}/strength.npy", parts.strength(array_of(f"{of}.strength", found[None]))[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self._epochs:
            self._member.end(whole=False)
            raise InvalidInput(
                f"member {self.id!r} ended without any", field="predictions", allowed="m.predictions(test=logits)"
            )
        if error is None:
            self._assemble()
        self._member.end(whole=error is None)

    # --- within ---

    def _tell_kind(self, outputs: Array) -> None:
        """In time to change it: what comes of hours is kept as it was called."""
        if kind_of(stacked("test", [outputs])) is OutputKind.PROBS:
            _tell(
                f"the rows of member {self.id}'s predictions sum to 1, as probabilities do, and are kept as logits, "
                "which they were called: if they are probabilities, say ms.ensemble(..., kind='probs')"
            )

    def _outputs(self, name: str, given: ArrayLike, place: str | None = None, *, drawn: bool = False) -> Array:
        """[N, K], or [S, N, K] where drawn, checked. place: whose examples they must be as many as."""
        kind, array = self._ensemble.kind, array_of(name, given)
        found = parts.outputs(stacked(name, [array]), kind, lead=2 if drawn else 1)
        expected = self._ensemble.examples.get(place or "")
        if place == VALIDATION and expected is None:
            raise refuse(name, "their true labels are not known", "ms.ensemble(..., validation_labels=...)")
        count = found.shape[2 if drawn else 1]
        if expected is not None and count != expected:
            raise refuse(name, f"it is of {count:,} examples, and there are {expected:,} labels", f"{expected:,}")
        return array

    def _keep(self, place: str, array: Array) -> None:
        self._save(f"{place}.{FILE_OF[self._ensemble.kind]}.npy", array.read())

    def _save(self, name: str, values: NDArray[Any]) -> None:
        self._member.keep(name, lambda file: np.save(file, np.ascontiguousarray(values), allow_pickle=False))

    def _assemble(self) -> None:
        """Outputs of its epochs, in order: the last is the member, those before it are its trajectory."""
        what, folder = FILE_OF[self._ensemble.kind], self._member.folder / "epochs"
        epochs = sorted(self._epochs)
        found = [np.load(folder / f"{self._epochs[one]}.npy", mmap_mode="r", allow_pickle=False) for one in epochs]
        self._save(f"{TEST}.{what}.npy", found[-1])
        if len(found) > 1:
            self._save(f"trajectory.{TEST}.{what}.npy", np.stack(found[:-1]))
            self._save("trajectory.epochs.npy", np.array(epochs))


class EnsembleLog:
    """The ensemble, while its members are trained. page: where it is shown, once a server has something of it; lab: the
    experiment in a home, once the block has ended."""

    def __init__(
        self,
        spool: Spool,
        kind: OutputKind,
        examples: Mapping[str, int],
        courier: Courier | None,
        settings: Settings,
        *,
        is_shared: bool,
    ) -> None:
        """is_shared: others may have logged members of it before."""
        self.kind, self.examples, self._is_shared = kind, examples, is_shared
        self.lab: Lab | None = None
        self._spool, self._courier, self._settings = spool, courier, settings

    @property
    def page(self) -> str | None:
        return self._courier.delivery.page if self._courier is not None else None

    @property
    def here(self) -> frozenset[str]:
        """Ids of the members that the server has already, from the first line where the ensemble has an id; those need
        no training again. Of a server that is away: those that are kept on this machine until it is there."""
        return self._courier.delivery.here if self._courier is not None else frozenset()

    def member(
        self, id: str | int | None = None, *, seed: int | None = None, config: Mapping[str, Any] | None = None
    ) -> MemberLog:
        """Begin a member. id: what it is called, the same whoever logs it again; without one its seed, or its number.
        Raises InvalidInput."""
        count = len(self._spool.members)
        called = str(id if id is not None else seed if seed is not None else count)
        _check_name(called, "id")
        if seed is not None and not -(2**63) <= (seed := operator.index(seed)) < 2**63:
            raise InvalidInput(f"is {seed}", field="seed", allowed="a whole number of 64 bits")
        return MemberLog(self, self._spool.member(called, seed, dict(config or {})))

    def __enter__(self) -> Self:
        if self._courier is not None:
            if self._is_shared:
                self._ask(self._courier.delivery)
            self._courier.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._spool.end()
        try:
            if self._courier is None:
                if error is None:
                    self.lab = bring(self._spool, self._settings, progress=False)
                    self._spool.forget()
            else:
                self._finish(self._courier, AT_EXIT if error is None else 5.0)
        finally:
            self._spool.release()

    def _ask(self, delivery: Delivery) -> None:
        """Before hours of training: what is here, and whether it is taken at all."""
        try:
            delivery.ask()
        except BaseException:
            self._spool.forget()
            self._spool.release()
            raise

    def _finish(self, courier: Courier, patience: float) -> None:
        """Raises what the server refuses; all of it is still here then."""
        whole = is_taken = False
        try:
            whole = courier.finish(patience)
        except Conflict:
            is_taken = True  # it says itself what can be done
            raise
        finally:
            if whole:
                self._spool.forget()
            elif not is_taken:
                _tell(f"{self._spool.about.name} is kept here until it is sent: modescape spool send {self._spool.id}")


def ensemble(
    name: str,
    labels: ArrayLike,
    *,
    validation_labels: ArrayLike | None = None,
    recipe: Recipe | str = Recipe.UNKNOWN,
    kind: OutputKind | str = OutputKind.LOGITS,
    permutation: Literal["apply", "keep"] | None = None,
    classes: Sequence[str] = (),
    planned: int | None = None,
    server: str | None = None,
    token: str | None = None,
    id: str | None = None,
    folder: Path | str | None = None,
    notes: str = "",
    tags: Sequence[str] = (),
    settings: Settings | None = None,
) -> EnsembleLog:
    """Log an ensemble from the loop that trains it; a context for its members.

    labels: the true ones of the test examples, [N]; recipe: "same" where members differ by their seeds alone; kind:
    what predictions are; permutation: the answer to whether classes are in another order, where that is asked; planned:
    how many members there will be. A server shows what came so far, which takes that promise: without `planned`
    everything is sent when the block ends. id: the same in several processes, which then log members of one ensemble.
    folder: the home, without a server; empty is MODESCAPE_HOME. token: empty is MODESCAPE_TOKEN. Raises InvalidInput
    naming the argument.
    """
    settings = settings or (Settings(home=Path(folder)) if folder is not None else read_settings())
    what, how = _enum(OutputKind, kind, "kind"), _enum(Recipe, recipe, "recipe")
    truth = {TEST: parts.true_labels(array_of("labels", labels))}
    if validation_labels is not None:
        truth[VALIDATION] = parts.true_labels(array_of("validation_labels", validation_labels))
    if planned is not None and not 1 <= operator.index(planned) <= MOST_MEMBERS:
        raise InvalidInput(f"is {planned}", field="planned", allowed=f"1 to {MOST_MEMBERS}")
    if id is not None and (server is None or planned is None):
        raise InvalidInput(
            "is for members that several processes send", field="id", allowed="beside server and planned"
        )
    about = About(
        name=names_.checked(name, field="name"), server=server, home=str(settings.home),
        key=f"logged-{id or uuid.uuid4().hex}", planned=planned, kind=what, recipe=how, permutation=permutation,
        classes=tuple(map(str, classes)),
        notes=notes, tags=tuple(tags), by=f"{getpass.getuser()} at {socket.gethostname()}",
    )  # fmt: skip
    door = None if server is None else ServerDoor(server, token or settings.token_for(server), patience=0.0)
    spool = Spool.begin(settings.spool_folder, about, truth)
    courier = None if door is None else Courier(Delivery(spool, door, _tell))
    examples = {place: len(one) for place, one in truth.items()}
    return EnsembleLog(spool, what, examples, courier, settings, is_shared=id is not None)


def _tell(line: str) -> None:
    print(f"modescape: {line}", file=sys.stderr)


def _enum(of: Any, value: Any, field: str) -> Any:
    try:
        return of(value)
    except ValueError:
        raise InvalidInput(f"is {value!r}", field=field, allowed=", ".join(of)) from None


def _check_name(name: str, field: str) -> None:
    odd = any(ord(letter) < 32 or ord(letter) == 127 for letter in name) or ".." in name.split("/")
    if odd or not 1 <= len(name) <= _LONGEST or name.startswith("/") or "\\" in name:
        raise InvalidInput(
            f"is {name[:80]!r}", field=field, allowed=f"1 to {_LONGEST} characters that can be the name of a file"
        )


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"is {type(value).__name__}", field=name[:80], allowed="one number") from None


def _step(step: Any) -> int:
    try:
        return operator.index(step)
    except TypeError:
        raise InvalidInput(f"is {step!r}"[:80], field="step", allowed="a whole number") from None


def _epoch(epoch: Any) -> float:
    found = _number("epoch", epoch)
    if not 0 <= found < float("inf"):
        raise InvalidInput(f"is {epoch!r}", field="epoch", allowed="0 or more")
    return found
