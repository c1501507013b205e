"""Pages of the documentation that are made from the product itself: every setting, command, address and entry.

mkdocs calls `on_files` (see mkdocs.yml); `pages()` is what tests ask. Imports no torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modescape import registry
from modescape.claims import CLAIMS
from modescape.cli import parser
from modescape.registry import Entry
from modescape.settings import Settings

_REGISTRIES = (
    "datasets", "architectures", "methods", "corruptions", "optimisers", "schedules", "losses",
    "augmentations", "trainers", "studies", "figures", "presets",
)  # fmt: skip


def pages() -> dict[str, str]:
    """Markdown of every generated page, by its path below docs/."""
    return {
        "reference/settings.md": "\n".join(_settings()),
        "reference/command-line.md": "\n".join(_commands()),
        "reference/api.md": "\n".join(_api()),
        "reference/python.md": "\n".join(_python()),
        "reference/testing.md": "\n".join(_testing()),
        "decisions/index.md": "\n".join(_decisions()),
        "reference/claims.md": "\n".join(_claims()),
        **{f"reference/{name}.md": "\n".join(_entries(name)) for name in _REGISTRIES},
    }


def on_files(files: Any, config: Any) -> Any:
    """mkdocs: add the generated pages to those that are files."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield "Environment variables; `modescape settings` lists them with their values. Nothing here changes a result.\n"
    yield from _table(
        ("variable", "default", "what it is"),
        (
            (
                f"`MODESCAPE_{name.upper()}`",
                "" if field.is_required() or field.default_factory else _code(field.default),
                field.description or "",
            )
            for name, field in Settings.model_fields.items()
        ),
    )


def _commands() -> Iterator[str]:
    yield "# Command line\n"
    whole = parser()
    yield f"{whole.description}\n"
    for action in whole._actions:  # argparse offers no public way to its commands
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield f"## modescape {name}\n"
                yield f"{command.description}.\n"
                yield f"```text\n{command.format_help().strip()}\n```\n"


def _entries(kind: str) -> Iterator[str]:
    entries: Mapping[str, Entry] = getattr(registry, kind)
    yield f"# {kind.capitalize()}\n"
    for name, entry in entries.items():
        yield f"## {entry.title} {{ #{name} }}\n"
        yield f"`{name}` — {entry.summary}\n"
        yield f"Source: {entry.source}.\n"
        options = entry.options.model_json_schema().get("properties", {})
        if options:
            yield from _table(
                ("option", "default", "what it is"),
                (
                    (f"`{option}`", _code(field.get("default")), field.get("description", ""))
                    for option, field in options.items()
                ),
            )


def _claims() -> Iterator[str]:
    yield "# Claims\n"
    for claim in CLAIMS.values():
        yield f"## ({claim.letter}) {claim.title} {{ #{claim.letter} }}\n"
        yield f"Estimated: {claim.estimand}. Decided by {claim.decided_by.words}.\n"
        yield f"Margin `margins.{claim.margin.field}`, {_code(claim.margin.default)}: {claim.margin.says}\n"
        yield f"Source: {claim.paper}; [science {claim.section}](../science/o-verdict.md).\n"


def _api() -> Iterator[str]:
    from modescape_api.app import create_app
    from modescape_api.pages.documentation import groups
    from modescape_api.resources.openapi import INTRODUCTION, TAGS

    yield "# REST interface\n"
    yield f"{INTRODUCTION}\n"
    yield "A running server shows the same, with examples that can be copied, at `/api/docs`.\n"
    for tag, operations in groups(create_app(Settings()), "").items():
        yield f"## {tag.capitalize()}\n"
        yield f"{TAGS.get(tag, '')}\n"
        for one in operations:
            yield f"### {one.method} {one.path} {{ #{one.anchor} }}\n"
            yield f"**{one.summary}** {one.description}\n"
            if one.parameters:
                yield from _table(
                    ("parameter", "in", "kind", "default", "what it is"),
                    ((f"`{p.name}`", p.place, p.kind, _code(p.default), p.description) for p in one.parameters),
                )
            if one.body:
                yield f"Body:\n\n```json\n{one.body}\n```\n"
            answers = ", ".join(f"{answer.status} {answer.description}".strip() for answer in one.answers)
            yield f"Answers: {answers}. Errors: {', '.join(error.status for error in one.errors)}.\n"


def _python() -> Iterator[str]:
    import modescape

    yield "# In Python\n"
    for name in modescape.__all__:
        place = "modescape.registry" if name == "registry" else f"{modescape.home_of(name)}.{name}"
        yield f"::: {place}\n"


def _testing() -> Iterator[str]:
    import modescape.testing
    from modescape.testing.contract import Checked, rules_of

    yield "# Contracts for tests\n"
    yield "::: modescape.testing\n    options:\n      show_root_heading: false\n      members: false\n"
    for check in (getattr(modescape.testing, name) for name in modescape.testing.__all__ if name.startswith("check_")):
        yield f"::: {check.__module__}.{check.__name__}\n"
        yield from (f"- {rule}" for rule in rules_of(check))
        yield ""
    for record in (Checked, modescape.testing.ContractBroken):
        yield f"::: {record.__module__}.{record.__name__}\n"
    yield "::: modescape.testing.made.experiments\n"


def _decisions() -> Iterator[str]:
    yield "# Decisions\n"
    yield "Choices that are not obvious, dated, in the order they were made.\n"
    for path in sorted((Path(__file__).parent / "decisions").glob("0*.md")):
        title, _, date, *_ = path.read_text(encoding="utf-8").splitlines()
        yield f"- {date}: [{title.removeprefix('# ')}]({path.name})"


def _table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in row) + " |"
    yield ""


def _code(value: Any) -> str:
    return "" if value in (None, "") else f"`{value}`"
