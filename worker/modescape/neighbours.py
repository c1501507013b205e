"""Which account of this machine is at the other end of a connection over loopback, as the kernel knows it (Linux).

    owner(("127.0.0.1", 51234), ("127.0.0.1", 8000))     # 1000, or None where it cannot be told

The kernel is asked for the one socket (sock_diag(7), `INET_DIAG`), which takes 12 us and no rights; where that is not
allowed, its table is read (/proc/net/tcp, tcp6). A socket that is closed already belongs to nobody: the kernel says
0 of it, as of root's, but names no inode. An account of another user namespace, which has no number here, is told by
one for all of them, and is nobody's either.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
_NETLINK_SOCK_DIAG = 4  # linux/netlink.h
_NLM_F_REQUEST = 1
_ALL = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ASKED = struct.Struct("=BBBBI")  # inet_diag_req_v2 up to the socket: family, protocol, extensions, -, states
_SOCKET = struct.Struct("!HH16s16s")  # inet_diag_sockid: ports and addresses of its two ends, as on the wire
_REST = struct.Struct("=III")  # and its interface and cookie: any
_FOUND = struct.Struct("=BBBB48xIIIII")  # inet_diag_msg: family, state, -, -, socket, expires, queues, uid, inode
_TABLES = {socket.AF_INET: "tcp", socket.AF_INET6: "tcp6"}

Address = tuple[str, int]


def owner(client: Address | None, server: Address | None) -> int | None:
    """User id of the account whose process connected from `client` to `server`, both of this machine's loopback; None
    where it cannot be told."""
    if client is None or server is None or not sys.platform.startswith("linux"):
        return None
    try:
        ends = [(ipaddress.ip_address(host), port) for host, port in (client, server)]
    except ValueError:
        return None
    ends = [(getattr(host, "ipv4_mapped", None) or host, port) for host, port in ends]  # one socket takes both families
    if not all(host.is_loopback for host, _ in ends) or len({host.version for host, _ in ends}) != 1:
        return None
    (theirs, their_port), (ours, our_port) = ends
    family = socket.AF_INET if theirs.version == 4 else socket.AF_INET6
    try:
        found = _asked(family, (theirs.packed, their_port), (ours.packed, our_port))
    except OSError:
        found = _read(family, (theirs.packed, their_port), (ours.packed, our_port))
    return None if found == _overflow() else found


@lru_cache
def _overflow() -> int:
    """The number of all accounts that have none in this namespace."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 65534  # as linux/highuid.h has it


def _asked(family: int, theirs: tuple[bytes, int], ours: tuple[bytes, int]) -> int | None:
    """By the kernel's answer about one socket. Raises OSError where it gives none."""
    wanted = (
        _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL)
        + _SOCKET.pack(theirs[1], ours[1], theirs[0].ljust(16, b"\0"), ours[0].ljust(16, b"\0"))
        + _REST.pack(0, _ALL, _ALL)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        length = _HEADER.size + len(wanted)
        kernel.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + wanted)
        answer = kernel.recv(4096)
    _, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        (error,) = struct.unpack_from("=i", answer, _HEADER.size)
        raise OSError(-error, "the kernel does not tell")
    *_, uid, inode = _FOUND.unpack_from(answer, _HEADER.size)
    return int(uid) if inode else None


def _read(family: int, theirs: tuple[bytes, int], ours: tuple[bytes, int]) -> int | None:
    """By the kernel's table of all sockets."""
    wanted = [_written(*theirs), _written(*ours)]
    for fields in _rows(family):
        if fields[1:3] == wanted:
            return int(fields[7]) if fields[9] != "0" else None
    return None


def _rows(family: int) -> Iterator[list[str]]:
    try:
        lines = Path(f"/proc/net/{_TABLES[socket.AddressFamily(family)]}").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    yield from (line.split() for line in lines[1:])


def _written(address: bytes, port: int) -> str:
    """As the table has it: words of four bytes in this machine's order, then the port."""
    words = (int.from_bytes(address[i : i + 4], sys.byteorder) for i in range(0, len(address), 4))
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


def is_ours(host: str, port: int) -> bool:
    """Whether who listens there runs under our account, so that it may be shown what is ours. Where the system does not
    tell such things, it is taken for that."""
    if os.getuid() == _overflow():
        return False  # anybody could be called so
    with socket.create_connection((host, port), timeout=2.0) as line:
        ours, theirs = line.getsockname()[:2], line.getpeername()[:2]
        if owner(ours, theirs) is None:
            return True
        for _ in range(20):  # who has not taken the connection yet has no end of it
            if (found := owner(theirs, ours)) is not None:
                return found == os.getuid()
            time.sleep(0.05)
    return False
