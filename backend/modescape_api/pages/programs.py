"""What the launch form would send, as people send it otherwise: a file of YAML, curl, Python, a command.

    for program in programs(asked, origin="https://lab.example", needs_token=True):
        program.title, program.text

Each does what the button does, prints what is refused and why, and ends with a status that says so. A token is never
written out: it is taken from MODESCAPE_TOKEN.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from modescape.records import PRIORITIES, Json

TOKEN = "MODESCAPE_TOKEN"
_END = "MODESCAPE"  # of the text that a shell hands on: no line of JSON, and none of YAML, is it


@dataclass(frozen=True)
class Asked:
    """kind: what the API calls it; body: what is posted; document: what a file would say (the spec, or the sweep);
    name: the one that it gets."""

    kind: str
    body: Json
    document: Json
    name: str


@dataclass(frozen=True)
class Program:
    name: str
    title: str
    text: str


def programs(asked: Asked, *, origin: str, needs_token: bool) -> list[Program]:
    """origin: where the server is reached, with its path."""
    return [
        Program("yaml", "YAML", _yaml(asked, origin)),
        Program("curl", "curl", _curl(asked, origin, needs_token=needs_token)),
        Program("python", "Python", _python(asked, origin, needs_token=needs_token)),
        Program("command", "Command", _command(asked, origin, needs_token=needs_token)),
    ]


def _yaml(asked: Asked, origin: str) -> str:
    schema = f"{origin}/api/schema/{asked.kind.removesuffix('s').replace('experiment', 'spec')}.json"
    return f"# yaml-language-server: $schema={schema}\n{_as_yaml(asked.document)}"


def _as_yaml(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)


def _curl(asked: Asked, origin: str, *, needs_token: bool) -> str:
    headers = ["-H 'Content-Type: application/json'"]
    headers += [f'-H "Authorization: Bearer ${TOKEN}"'] if needs_token else []
    body = json.dumps(asked.body, indent=2, ensure_ascii=False)
    lines = [f"curl -sS --fail-with-body {shlex.quote(f'{origin}/api/{asked.kind}')}", *headers]
    said = " \\\n  ".join([*lines, "--data-binary @-"])
    return f"{said} <<'{_END}'\n{body}\n{_END}\n"


def _python(asked: Asked, origin: str, *, needs_token: bool) -> str:
    body = json.dumps(asked.body, indent=2, ensure_ascii=False).replace("'", "\\u0027")
    headers = '{"Content-Type": "application/json"' + (
        f', "Authorization": f"Bearer {{os.environ[\'{TOKEN}\']}}"}}' if needs_token else "}"
    )
    return (
        f"import json\n{'import os' + chr(10) if needs_token else ''}import sys\nimport urllib.error\n"
        f"import urllib.request\n\nbody = json.loads(r'''{body}''')\n"
        f"request = urllib.request.Request(\n    {json.dumps(f'{origin}/api/{asked.kind}')},\n"
        f"    json.dumps(body).encode(),\n    {headers},\n)\n"
        'try:\n    with urllib.request.urlopen(request) as answer:\n        print(json.load(answer)["links"]["page"])\n'
        "except urllib.error.HTTPError as refused:\n    sys.exit(refused.read().decode())\n"
    )


def _command(asked: Asked, origin: str, *, needs_token: bool) -> str:
    body = asked.body
    options = [("--name", asked.name)]
    options += [(f"--{name}", body[name]) for name in ("preset", "notes", "project", "parent") if body.get(name)]
    options += [("--tag", tag) for tag in body.get("tags", ())]
    words = {number: word for word, number in PRIORITIES.items()}
    options += [("--priority", words[body["priority"]])] if body.get("priority") in words else []
    # A text that begins with a dash is no option.
    said = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in options)
    note = f"# {TOKEN} holds a token of yours\n" if needs_token else ""
    head = f"modescape launch - --server {shlex.quote(origin)} {said}"
    return f"{note}{head} <<'{_END}'\n{_as_yaml(asked.document)}{_END}\n"
