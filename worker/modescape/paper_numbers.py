"""Every number the paper prints, beside the nearest experiments there are, and what differs between the two.

    found = paper(folder="here")
    found                                           # as a table
    for number in found.numbers:
        number.printed.title, number.printed.value, [(near.slug, near.value, near.differences) for near in number.near]

Nearest: of the same architecture and data first, then with the fewest settings that differ from the preset which
repeats the paper's (science e.2). Only settings that the number depends on are compared, and only experiments that did
not fail and were not cancelled. Fort, Hu & Lakshminarayanan 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from modescape.drawing.figure import Table
from modescape.drawing.words import percent, rate
from modescape.finding import Finding
from modescape.laboratory import opened
from modescape.listing import Condition, ListQuery
from modescape.records import Group, Status
from modescape.registry import architectures, datasets, methods, presets, while_known
from modescape.reproduced import reproduced
from modescape.spec import ExperimentSpec, parse, stored, words
from modescape.store import Store
from modescape.tables import Experiment

CANDIDATES = 25  # experiments looked at for each degree of nearness
ABANDONED = (Status.FAILED, Status.CANCELLED)
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The same quantity in one experiment. of: what it is the mean of; more: differences the spec does not tell;
    same_images: it is of the images the paper's is of."""

    value: float
    of: str
    more: tuple[str, ...] = ()
    same_images: bool = True


Read = Callable[[Store, Experiment], Reading | None]


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A number in the paper. preset: repeats its setting; methods: those it depends on (None: all)."""

    key: str
    title: str
    value: float
    unit: Literal["accuracy", "nats", ""]
    where: str
    preset: str
    read: Read
    methods: tuple[str, ...] | None = ()

    def told(self, value: float) -> str:
        """A value of this number as people read it."""
        if self.unit == "accuracy":
            return f"{percent(value)} %"
        return f"{rate(value)} {self.unit}" if self.unit else rate(value, 2)

    @property
    def short(self) -> str:
        """The preset's short version; "" where it has none."""
        return next((other.name for other in presets.values() if other.twin_of == self.preset), "")


@dataclass(frozen=True, kw_only=True)
class Near:
    """An experiment's own number, and in words what differs between its setting and the paper's. same_data: trained
    on the paper's data, and measured on the images the paper's number is of."""

    slug: str
    name: str
    value: float
    of: str
    same_data: bool
    same_architecture: bool
    differences: tuple[str, ...]

    @property
    def differs(self) -> str:
        more = len(self.differences) - 4
        said = [*self.differences[:4], *([f"and {more} more"] if more > 0 else [])]
        return "; ".join(said) or "nothing that this number depends on differs"


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """The number as it came out where Modescape is made. by: whose it is: when, on what machine, by which preset."""

    value: float
    of: str
    sd: float | None
    differs: str
    by: str
    digest: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Number:
    """near: the nearest experiments, the nearest first, whether or not their numbers can be compared with it; kept:
    what came with the product, for whoever has no experiment that repeats it."""

    printed: Printed
    near: tuple[Near, ...]
    kept: Repeated | None = None

    @property
    def repeated(self) -> tuple[Near, ...]:
        """Those of the same network on the same data: only their distance from the paper's number means anything."""
        return tuple(near for near in self.near if near.same_data and near.same_architecture)

    def __repr__(self) -> str:
        say, printed = self.printed.told, self.printed
        known = [f"    {say(near.value)} in {near.name} ({near.of}): {near.differs}" for near in self.repeated]
        if not known and self.kept is not None:
            kept = self.kept
            known = [f"    {say(kept.value)} {kept.by} ({kept.of}): {kept.differs or 'as in the preset'}"]
        if not known:
            others = [f"; nearest, though not the same quantity: {near.name}, {near.differs}" for near in self.near]
            known = [f"    nothing here repeats it yet; the preset {printed.preset} does{''.join(others[:1])}"]
        return "\n".join((f"{say(printed.value)}  {printed.title} ({printed.where})", *known))


@dataclass(frozen=True, repr=False)
class Paper:
    """Every number the paper prints, in its order."""

    numbers: tuple[Number, ...]

    def table(self) -> Table:
        """A row for each experiment beside a number; repeated: of the same network on the same data."""
        rows = tuple(
            (number.printed.key, number.printed.value, near.slug, near.value, near in number.repeated, near.differs)
            for number in self.numbers
            for near in number.near
        )
        return Table(("number", "paper", "experiment", "value", "repeated", "differs"), rows)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.numbers))


# -- what is printed --------------------------------------------------------------------------------------------------


def _accuracy(store: Store, row: Experiment) -> Reading | None:
    return None if row.accuracy is None else Reading(value=row.accuracy, of=_runs(row))


def _divergence(group: str) -> Read:
    """js_mean of a group on images of another kind: on SVHN where there are several sets, else the first."""

    def read(store: Store, row: Experiment) -> Reading | None:
        found = [
            m
            for m in store.results.group_measurements(row.id, shifted=False)
            if m.metric == "js_mean" and m.value is not None and m.subject.split("/")[::2] == ["ood", group]
        ]
        if not found:
            return None
        chosen = min(found, key=lambda m: (m.details.get("dataset") != "svhn", m.subject))
        dataset, members = chosen.details.get("dataset", ""), chosen.details.get("members")
        more = [] if dataset == "svhn" else [f"on {datasets.title(str(dataset))} instead of SVHN"]
        if members not in (None, 5):
            more.append(f"between {members} functions instead of 5")
        assert chosen.value is not None
        return Reading(
            value=chosen.value,
            of=_runs(row),
            more=tuple(more),
            same_images=dataset == "svhn",
        )

    return read


def _exponent(store: Store, row: Experiment) -> Reading | None:
    found = Finding.from_json(row.finding).family
    if found is None or found.exponent is None:
        return None
    end = ", at the end of the range that was searched" if found.border else ""
    return Reading(value=found.exponent, of=f"{found.samples} samples around one run{end}")


def _runs(row: Experiment) -> str:
    count = Finding.from_json(row.finding).runs or row.runs
    return "one run" if count == 1 else f"mean of {count} runs"


_JS = "mean Jensen-Shannon divergence of 5 functions on SVHN"
_TRAINED = "test accuracy on CIFAR-10"
PRINTED = (
    Printed(key="accuracy-small-cnn", title=f"SmallCNN, {_TRAINED}", value=0.64, unit="accuracy", where="Fig 6",
            preset="fig-6", read=_accuracy),
    Printed(key="accuracy-medium-cnn", title=f"MediumCNN, {_TRAINED}", value=0.71, unit="accuracy", where="Fig 6",
            preset="fig-6-medium", read=_accuracy),
    Printed(key="accuracy-resnet20v1", title=f"ResNet20v1, {_TRAINED}", value=0.90, unit="accuracy", where="Fig 6",
            preset="fig-6-resnet20", read=_accuracy),
    Printed(key="js-independent", title=f"Independent runs, {_JS}", value=0.384, unit="nats", where="SVHN row",
            preset="svhn-row", read=_divergence(Group.INDEPENDENT)),
    Printed(key="js-random", title=f"Random subspace, {_JS}", value=0.155, unit="nats", where="SVHN row",
            preset="svhn-row", read=_divergence("random"), methods=("random",)),
    Printed(key="js-trajectory", title=f"One trajectory, {_JS}", value=0.153, unit="nats", where="SVHN row",
            preset="svhn-row", read=_divergence(Group.TRAJECTORY)),
    Printed(key="js-low-rank", title=f"Low-rank Gaussian, {_JS}", value=0.087, unit="nats", where="SVHN row",
            preset="svhn-row", read=_divergence("low-rank"), methods=("low-rank",)),
    Printed(key="js-diagonal", title=f"Diagonal Gaussian, {_JS}", value=0.034, unit="nats", where="SVHN row",
            preset="svhn-row", read=_divergence("diagonal"), methods=("diagonal",)),
    Printed(key="exponent", title="Exponent e of the family fitted to samples, ResNet20v1 on CIFAR-100", value=0.22,
            unit="", where="Fig S6", preset="s6", read=_exponent, methods=None),
)  # fmt: skip


# -- the nearest experiments ------------------------------------------------------------------------------------------


def paper(*, folder: Path | str | None = None) -> Paper:
    """Beside the experiments kept in `folder` (None: in the folder of the settings)."""
    return beside(opened(folder).store)


def beside(store: Store) -> Paper:
    """Every printed number with the nearest experiments that have it, the nearest first."""
    having, newest = cache(partial(store.experiments.measured, "js_mean", "ood/")), cache(partial(_newest, store))
    kept = _kept()
    chosen = {
        printed.key: list(having() if printed.unit == "nats" else _candidates(printed, newest)) for printed in PRINTED
    }
    rows = store.experiments.of_ids({id_ for ids in chosen.values() for id_ in ids})
    known = {row.id: (row, _spec(row)) for row in rows if row.status not in ABANDONED}
    return Paper(
        tuple(
            Number(
                printed=printed,
                near=_nearest(store, printed, [known[id_] for id_ in chosen[printed.key] if id_ in known]),
                kept=kept.get(printed.key),
            )
            for printed in PRINTED
        )
    )


@while_known
def _specs() -> dict[str, ExperimentSpec]:
    """By their digests, those that were read last: reading all that are looked at takes a third of the time."""
    return {}


def _spec(row: Experiment) -> ExperimentSpec:
    known = _specs()
    found = known.get(row.digest)
    if found is None:
        if len(known) > 1000:
            known.clear()
        found = known[row.digest] = stored(row.spec)
    return found


def _kept() -> dict[str, Repeated]:
    """By the keys of printed numbers; of a figure done twice, as in the preset before shortened."""
    found = {}
    for one in sorted(reproduced().values(), key=lambda one: not one.shortened):
        by = f"with Modescape, preset {one.preset}, {one.date}, {one.numerics}, {one.machine}"
        for key, number in one.numbers.items():
            found[key] = Repeated(
                value=number.value, of=number.of, sd=number.sd, differs=number.differs, by=by, digest=one.digest
            )
    return found


def _nearest(
    store: Store, printed: Printed, candidates: Iterable[tuple[Experiment, ExperimentSpec]]
) -> tuple[Near, ...]:
    own = parse(presets[printed.preset].call())
    was, ranked = _settings(own, printed.methods), []
    for order, (row, spec) in enumerate(candidates):
        differences = _differences(was, _settings(spec, printed.methods))
        far = (spec.network.architecture != own.network.architecture, spec.data.dataset != own.data.dataset)
        ranked.append((*far, len(differences), order, row, differences))
    near: list[Near] = []
    for other_network, other_data, _, _, row, differences in sorted(ranked, key=lambda item: item[:4]):
        reading = printed.read(store, row)
        if reading is not None:
            near.append(
                Near(
                    slug=row.slug,
                    name=row.name,
                    value=reading.value,
                    of=reading.of,
                    same_data=not other_data and reading.same_images,
                    same_architecture=not other_network,
                    differences=(*reading.more, *differences),
                )
            )
        if len(near) == SHOWN:
            break
    return tuple(near)


def _candidates(printed: Printed, newest: Callable[..., Sequence[Experiment]]) -> Iterable[str]:
    """Ids of experiments that may have the number: those nearest in architecture and data, newest first."""
    own = parse(presets[printed.preset].call())
    network = Condition("architecture", "eq", own.network.architecture)
    data = Condition("dataset", "eq", own.data.dataset)
    degrees = ((network, data), (network,), (data,), ())
    return dict.fromkeys(
        row.id for degree in degrees for row in newest(*degree) if row.methods or printed.methods is not None
    )


def _newest(store: Store, *conditions: Condition) -> Sequence[Experiment]:
    """Those that have an accuracy, and neither failed nor were cancelled."""
    kept = (Condition("accuracy", "null", False), Condition("status", "notin", ABANDONED))
    return store.experiments.page(ListQuery((*conditions, *kept), limit=CANDIDATES, counted=False)).items


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs in data, network, training, number of runs and the methods that matter, in words."""
    # Options of networks that are not the same, or of methods that only one of the two has, say nothing more.
    return tuple(
        f"{name} {_said(name, now[name])} instead of {_said(name, was[name])}"
        for name in was
        if name in now and was[name] != now[name]
    ) + tuple(
        f"{'without' if name in was else 'also'} {name.removesuffix(_DRAWN)}"
        for name in dict.fromkeys((*was, *now))
        if name.endswith(_DRAWN) and (name in was) != (name in now)
    )


_DRAWN = ": samples"
_FIRST = {"dataset": "data", "architecture": "network"}
_INERT = ("path", "fingerprint", "protocol", "checkpoint_every", "snapshots")


def _settings(spec: ExperimentSpec, wanted: tuple[str, ...] | None) -> dict[str, Any]:
    """Every setting a printed number depends on, by the name it is told under."""
    document = spec.model_dump(mode="json")
    found: dict[str, Any] = {"data": spec.data.dataset, "network": spec.network.architecture}
    found["runs"] = spec.ensemble.runs
    for part in (document["data"], document["training"], document["network"]["options"]):
        found |= {_FIRST.get(name, name.replace("_", " ")): v for name, v in part.items() if name not in _INERT}
    found["evaluated on"] = spec.evaluation.splits[0]
    for chosen in document["methods"]:
        if wanted is None or chosen["method"] in wanted:
            title = methods.title(chosen["method"])
            found[f"{title}{_DRAWN}"] = chosen["spread"] if wanted is None else chosen["typical"]
            found |= {f"{title}: {name.replace('_', ' ')}": v for name, v in chosen["options"].items()}
    return found


def _said(name: str, value: Any) -> str:
    if name in ("data", "network"):
        return (datasets if name == "data" else architectures).title(str(value))
    if name == "validation images" and value is None:
        return "the set’s default"
    if value is None:
        return "all" if name.endswith("images") else "as measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"{len(value)} of them"
    return f"{value:g}" if isinstance(value, float) else words(name.replace(" ", "_"), str(value))
