"""Redo the paper's figures on the paper's own data: numbers, words and pictures, kept with the product.

    MODESCAPE_DATA=/data python benchmarks/reproduce.py 2 6 S2          # or: make reproduce FIGURES="2 6 S2"
    python benchmarks/reproduce.py --list                            # what there is, and what is kept of it
    python benchmarks/reproduce.py --write                           # docs/reproduction.md anew from what is kept

Experiments are kept in `reproduction/` (or --home): what is finished there is not done again, what was stopped goes on.
Each finished figure leaves worker/modescape/reproduced/<key>.json (which the page Paper shows until somebody's own runs
take its place), its pictures in docs/reproduction/ and its part of docs/reproduction.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reproduction.md"
PICTURES = ROOT / "docs" / "reproduction"
HOME = ROOT / "reproduction"

Json = dict[str, Any]


@dataclass(frozen=True)
class Repetition:
    """One figure of the paper. draws: our figures of it; cut: fields of the preset's spec that two cores cannot pay,
    with the values they have here; shortened: the same in words."""

    figure: str
    preset: str
    draws: tuple[str, ...]
    cut: Json = field(default_factory=dict)
    shortened: str = ""


_COARSE = {"planes.*.resolution": 33, "planes.*.train_images": 500, "planes.*.test_images": 500}
_COARSELY = "planes of 33 x 33 points, each of 500 training and 500 test images, instead of 65 x 65 of 2,000"
_FEW, _OF_FEW = {"ensemble.runs": 3}, "3 runs instead of 5"
_FEWER = {**_FEW, "shift.images": 500}
_OF_FEWER = f"{_OF_FEW}, the first 500 test images under shift instead of 10,000"

REPETITIONS = {
    "2": Repetition("Fig 2", "fig-2", ("trajectories", "similarity-trajectory", "tsne-trajectories")),
    "3": Repetition("Fig 3", "fig-3", ("similarity-runs",)),
    "4": Repetition("Fig 4", "fig-4", ("tsne-samples",)),
    "5": Repetition("Fig 5", "fig-5", ("landscape",), _COARSE, _COARSELY),
    "6": Repetition("Fig 6, SmallCNN", "fig-6", ("plane",)),
    "6-raw": Repetition(
        "Fig 6, SmallCNN as the code of MediumCNN", "fig-6", ("plane",),
        {"data.input_scale": "raw255", "data.validation_images": 500, "training.sampling": "replacement"},
        "raw pixels, 500 images held out and batches drawn with replacement, as the authors' code of MediumCNN has it",
    ),
    "6-medium": Repetition(
        "Fig 6, MediumCNN", "fig-6-medium", ("plane",), {"ensemble.runs": 3}, "3 runs instead of 10"
    ),
    "6-resnet20": Repetition(
        "Fig 6, ResNet20v1", "fig-6-resnet20", ("plane",),
        {"ensemble.runs": 3, "methods.*.spread": 20, "training.epochs": 20, "training.milestones": [
            {"epoch": 8, "learning_rate": 1e-4}, {"epoch": 12, "learning_rate": 1e-5},
        ]},
        "3 runs instead of 10, 20 epochs instead of 200 and the steps of the learning rate with them, 20 samples over "
        "the whole range of each method instead of 50",
    ),
    "8": Repetition("Fig 8", "fig-8", ("ensembles",), _FEW, _OF_FEW),
    "9": Repetition("Fig 9", "fig-9", ("shift", "shift-types"), _FEWER, _OF_FEWER),
    "S1": Repetition("Fig S1", "s1", ("landscape",), _COARSE, _COARSELY),
    "S2": Repetition("Fig S2", "s2", ("tunnel",)),
    "S3": Repetition(
        "Fig S3", "s3", ("triangles",), {"tunnels.*.triangle_images": 500}, "triangles on 500 images instead of 2,000"
    ),
    "S4": Repetition(
        "Fig S4", "s4", ("seeds",), {"seeds.learning_rates": [3e-4, 1.6e-3, 3e-3], "seeds.epochs": 20},
        "three learning rates instead of five, each pair trained for 20 epochs instead of 40",
    ),
    "claims": Repetition(
        "Claims", "claims", ("ensembles", "plane"), {**_FEWER, "ood": []}, f"{_OF_FEWER}, and no SVHN",
    ),
}  # fmt: skip


def changed(document: Json, cut: Json) -> Json:
    """The preset's spec with what was cut; `*` is every entry of a list."""
    for path, value in cut.items():
        *parts, last = path.split(".")
        found: list[Any] = [document]
        for part in parts:
            found = [one for inner in found for one in (inner if part == "*" else [inner[part]])]
        for inner in found:
            inner[last] = value
    return document


def redo(key: str, home: Path) -> None:
    """Train, judge and keep one figure; what is there already is taken over."""
    from modescape import reproduced
    from modescape.laboratory import Lab, started
    from modescape.registry import presets
    from modescape.spec import parse

    asked = REPETITIONS[key]
    document = changed(presets[asked.preset].call(), asked.cut)
    here = started(home, None)
    digest = parse(document).digest()
    row = next((one for one in _experiments(here.laboratory) if one.digest == digest), None)
    if row is None:
        row = here.laboratory.create(document, name=asked.figure, preset=asked.preset)
    lab = Lab(here.laboratory, row.id) if row.status.has_ended else here.finish(row, progress=True)
    lost = [f"{stage.kind}/{stage.key}: {stage.error}" for stage in lab.stages if stage.state == "failed"]
    if lost:
        sys.exit(f"{asked.figure} is not kept, for some of it failed: {'; '.join(lost[:5])}")
    path = reproduced.written(_kept(key, asked, lab))
    for name in asked.draws:
        _draw(lab, name, PICTURES / f"{key}-{name}.png")
    print(f"{asked.figure}: {path.relative_to(ROOT)}", flush=True)


def _experiments(laboratory: Any) -> Iterator[Any]:
    from modescape.listing import ListQuery

    yield from laboratory.store.experiments.page(ListQuery(limit=100))


def _kept(key: str, asked: Repetition, lab: Any) -> Json:
    """What a figure came out as, as JSON."""
    import numpy as np

    from modescape.paper_numbers import PRINTED
    from modescape.registry import figures

    row = lab.experiment
    numbers = {}
    for printed in PRINTED:
        reading = printed.read(lab.store, row) if printed.preset == asked.preset else None
        if reading is None:
            continue
        accuracies = [one.accuracy for one in lab.solutions(role="optimum") if one.accuracy is not None]
        is_mean = printed.unit == "accuracy" and len(accuracies) > 1
        sd = float(np.std(accuracies, ddof=1)) if is_mean else None
        differs = "; ".join(filter(None, (asked.shortened, *reading.more)))
        numbers[printed.key] = {"value": reading.value, "of": reading.of, "sd": sd, "differs": differs}
    told = {}
    for name in asked.draws:
        entry = figures[name]
        words = entry.tell(entry.call(lab, entry.options()))
        told[name] = {
            "caption": words.caption, "summary": words.summary, "head": list(words.notes.head),
            "lines": [[line.label, *line.values] for line in words.notes.lines], "text": list(words.notes.text),
        }  # fmt: skip
    claims = [
        {"id": one.record.id, "title": one.claim.title, "word": one.record.word, "effect": one.effect,
         "interval": one.interval, "survives": one.survives, "because": one.record.because}
        for one in lab.claims()
    ]  # fmt: skip
    arithmetic = {", ".join(f"{value}" for value in run.arithmetic.values()) for run in lab.runs if run.arithmetic}
    return {
        "key": key, "figure": asked.figure, "preset": asked.preset, "shortened": asked.shortened,
        "date": time.strftime("%Y-%m-%d"), "numerics": ", ".join(sorted(arithmetic)), "machine": _machine(),
        "runs": len(lab.healthy), "core_seconds": round(sum(stage.seconds or 0.0 for stage in lab.stages)),
        "spec": row.spec, "spec_digest": row.digest, "numbers": numbers, "figures": told, "claims": claims,
    }  # fmt: skip


def _machine() -> str:
    model = (
        re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text()) if platform.system() == "Linux" else None
    )
    return f"{model[1] if model else platform.processor()}, {os.cpu_count()} cores"


def _draw(lab: Any, name: str, path: Path) -> None:
    """The figure as the product draws it for print, as a picture."""
    from playwright.sync_api import sync_playwright

    from modescape.drawing.frame import Frame, html
    from modescape.registry import figures

    entry = figures[name]
    data = entry.call(lab, entry.options(size="page"))
    path.parent.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
                                             args=["--no-sandbox"])  # fmt: skip
        page = browser.new_page(viewport={"width": 960, "height": 800})
        page.set_content(html(entry.draw(data, "light"), Frame.of(entry, data, lab.experiment.name)))
        page.wait_for_selector(".main-svg")
        page.wait_for_timeout(500)
        page.locator(".js-plotly-plot").first.screenshot(path=str(path))
        browser.close()


# --- docs/reproduction.md ---------------------------------------------------------------------------------------------


def write() -> None:
    """Every part of the page between its marks, from what is kept."""
    from modescape.reproduced import reproduced

    reproduced.cache_clear()
    text = PAGE.read_text()
    kept = reproduced()
    for key in REPETITIONS:
        if key in kept:
            text = _between(text, key, _part(kept[key]), kept[key].figure)
    text = _between(text, "protocol", _searched(), "The search")
    PAGE.write_text(text)


def _between(text: str, mark: str, part: str, title: str) -> str:
    """What stands between a mark and its end anew; a mark that is not there yet begins a chapter at the end."""
    begin, end = f"<!-- begin {mark} -->", f"<!-- end {mark} -->"
    if begin not in text:
        text = f"{text.rstrip()}\n\n## {title}\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{part}\n{end}{rest.partition(end)[2]}"


def _part(kept: Any) -> str:
    """What came out, as Markdown: whose numbers they are, the printed ones beside them, pictures, tables, claims."""
    from modescape.paper_numbers import PRINTED

    whole = f"shortened: {kept.shortened}" if kept.shortened else "as in the preset"
    lines = [f"Preset `{kept.preset}`, {whole}; {kept.runs} runs, {kept.numerics}, {kept.machine}, {kept.date}.", ""]
    if kept.numbers:
        lines += ["| Number | Paper | Here | sd | of |", "|---|---|---|---|---|"]
        known = {printed.key: printed for printed in PRINTED}
        for key, one in kept.numbers.items():
            printed = known[key]
            sd = "–" if one.sd is None else printed.told(one.sd)
            lines.append(
                f"| {printed.title} | {printed.told(printed.value)} | {printed.told(one.value)} | {sd} | {one.of} |"
            )
        lines.append("")
    for name, told in kept.figures.items():
        lines += [f"![{told['summary']}](reproduction/{kept.key}-{name}.png)", "", told["summary"], ""]
        lines += _table(told["head"], told["lines"]) + ([""] if told["lines"] else [])
        lines += [" ".join(told["text"]), ""] if told["text"] else []
    if kept.key == "claims":
        head = ("Claim", "Word", "With all tests at once", "Effect", "Interval")
        rows = [(f"({one['id']}) {one['title']}", one["word"], "yes" if one["survives"] else "–", one["effect"],
                 one["interval"]) for one in kept.claims]  # fmt: skip
        lines += _table(head, rows)
    return "\n".join(lines).rstrip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    wide = max(len(head), *(len(row) for row in rows))
    whole = [[*row, *[""] * (wide - len(row))] for row in (head, *rows)]
    lines = [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in whole
    ]
    return [lines[0], "|" + "---|" * wide, *lines[1:]]


def _searched() -> str:
    """Every setting that was tried, with n, mean and the 95 % half-width, by arithmetic."""
    from protocol import rows

    head = ("Network", "Epochs", "Setting", "Seeds", "Arithmetic", "n", "Mean", "±", "Holds the paper's")
    return "\n".join(_table(head, [tuple(map(str, row)) for row in rows()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(REPETITIONS))
    parser.add_argument("--home", type=Path, default=HOME)
    parser.add_argument("--list", action="store_true", help="what there is, and what is kept of it")
    parser.add_argument("--write", action="store_true", help="write the page only")
    asked = parser.parse_args()
    unknown = [name for name in asked.figures if name not in REPETITIONS]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(REPETITIONS)}")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # one thread is one numerics class, whatever the machine
    if asked.list:
        from modescape.reproduced import reproduced

        for key, one in REPETITIONS.items():
            kept = reproduced().get(key)
            print(f"{key:12} {one.figure:18} {f'{kept.date}, {kept.runs} runs' if kept else '-'}")
        return
    for key in asked.figures:
        redo(key, asked.home)
    if asked.figures or asked.write:
        write()


if __name__ == "__main__":
    main()
