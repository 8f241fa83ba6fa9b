#!/usr/bin/env python3
"""Checks that twemproxy puts all keys where placements.txt says, which libmemcached wrote.

    client/src/ketama/twemproxy.py [NUTCRACKER]

Needs Debian's package nutcracker, or the path of another build; tests/twemproxy/run installs it. For each
list of servers of placements.txt twemproxy is started over as many sockets, each with the name and the
weight of one of them, and 10,000 keys are stored through it. Whoever is behind a socket notes which.
"""

import pathlib
import socket
import subprocess
import sys
import tempfile
import threading

KEYS = 10_000
PATIENCE_S = 20
CHUNK_KEYS = 100


def lines_of(connection):
    with connection.makefile("rb") as received:
        while line := received.readline():
            yield line


class Backend:
    """Answers sets, and notes their keys."""

    def __init__(self, path, number, placed):
        self.placed, self.number = placed, number
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        connection, _ = self.listener.accept()
        lines = lines_of(connection)
        for line in lines:
            command, key, *_ = line.split()
            assert command == b"set", line
            next(lines)
            self.placed[int(key.removeprefix(b"key:"))] = self.number
            connection.sendall(b"STORED\r\n")


def connected(path, twemproxy):
    waited = threading.Event()
    for _ in range(PATIENCE_S * 100):
        assert twemproxy.poll() is None, "twemproxy has ended"
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(path)
            return client
        except OSError:
            client.close()
            waited.wait(0.01)
    raise TimeoutError("twemproxy does not listen")


def placements(program, servers):
    placed = [None] * KEYS
    with tempfile.TemporaryDirectory() as folder:
        backends = [f"{folder}/{number}" for number in range(len(servers))]
        for number, path in enumerate(backends):
            Backend(path, number, placed)
        settings = pathlib.Path(folder, "settings.yml")
        settings.write_text("\n".join([
            "pool:",
            f"  listen: {folder}/listen",
            "  hash: md5",
            "  distribution: ketama",
            "  servers:",
            *(f"   - {path}:{weight} {name}"
              for path, (name, weight) in zip(backends, servers)),
            "",
        ]))
        twemproxy = subprocess.Popen([
            program, "-c", settings, "-o", f"{folder}/log", "-a", "127.0.0.1",
            "-s", str(free_port()),
        ])
        try:
            client = connected(f"{folder}/listen", twemproxy)
            client.settimeout(PATIENCE_S)
            answers = lines_of(client)
            for first in range(0, KEYS, CHUNK_KEYS):
                keys = range(first, first + CHUNK_KEYS)
                client.sendall(b"".join(b"set key:%d 0 0 1\r\nv\r\n" % key for key in keys))
                for _ in keys:
                    answer = next(answers)
                    assert answer == b"STORED\r\n", answer
        finally:
            twemproxy.kill()
            twemproxy.wait()
    return "".join(f"{number:x}" for number in placed)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


program = sys.argv[1] if len(sys.argv) > 1 else "nutcracker"
lists = pathlib.Path(__file__).with_name("placements.txt").read_text().splitlines()
for servers, expected in zip(lists[::2], lists[1::2]):
    pairs = [server.rsplit("=", 1) for server in servers.split(" ")]
    found = placements(program, pairs)
    differing = sum(ours != theirs for ours, theirs in zip(expected, found, strict=True))
    print(f"{len(pairs)} servers, {KEYS} keys: {differing} are elsewhere", flush=True)
    if differing:
        sys.exit(f"twemproxy differs from placements.txt for {servers}")
