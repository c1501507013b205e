"""Processes that begin with their libraries loaded: one loads them, and every program asked for runs in a fork of it.

    with forks("torch", "sqlalchemy") as run:
        run(code, folder, path=(site,), MODESCAPE_HOME="home")  # what it prints; AssertionError where it fails

A fork has modules, folder, environment and entries of registries of its own, as a process has that was started for it;
only the seconds that imports take are shared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

Forks = Callable[..., str]

SERVER = """
import importlib, json, os, sys, traceback
for name in sys.argv[1:]:
    importlib.import_module(name)

def become(code, folder, path, arguments, environment, out, err):
    for stream, name in enumerate((os.devnull, out, err)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), stream)
    os.chdir(folder)
    os.environ.update(environment)
    sys.path[:0] = path
    sys.argv[1:] = arguments
    status = 0
    try:
        exec(compile(code, "<string>", "exec"), sys.modules["__main__"].__dict__)
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

for line in sys.stdin:
    child = os.fork()
    if not child:
        become(**json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def forks(*modules: str) -> Iterator[Forks]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def run(code: str, folder: Path, *arguments: str, path: Sequence[Path] = (), **environment: str) -> str:
            with tempfile.TemporaryDirectory() as printed:
                out, err = Path(printed, "out"), Path(printed, "err")
                asked = {"code": code, "folder": f"{folder}", "path": [*map(str, path)], "arguments": arguments,
                         "environment": environment, "out": f"{out}", "err": f"{err}"}  # fmt: skip
                stdin.write(json.dumps(asked) + "\n")
                stdin.flush()
                assert stdout.readline() == "0\n", err.read_text(encoding="utf-8")[-4000:]
                return out.read_text(encoding="utf-8")

        yield run
        stdin.close()
