#!/usr/bin/env python3
"""Writes placements.txt: where libmemcached puts 10,000 keys.

Needs Debian's package libmemcached11, and no server: the library only computes.
Each pair of lines is a list of servers, NAME=WEIGHT, and for each key (`key:0` to `key:9999`) the
number of its server as one hexadecimal digit.
"""

import ctypes
import pathlib
import random

KEYS = 10_000
DEFAULT_PORT = 11211
# memcached_behavior_t
KETAMA_WEIGHTED = 16

library = ctypes.CDLL("libmemcached.so.11")
library.memcached_create.restype = ctypes.c_void_p
library.memcached_create.argtypes = [ctypes.c_void_p]
library.memcached_free.argtypes = [ctypes.c_void_p]
library.memcached_behavior_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64]
library.memcached_behavior_get.argtypes = [ctypes.c_void_p, ctypes.c_int]
library.memcached_behavior_get.restype = ctypes.c_uint64
library.memcached_server_add_with_weight.argtypes = [
    ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint16, ctypes.c_uint32,
]
library.memcached_server_add_unix_socket_with_weight.argtypes = [
    ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32,
]
library.memcached_generate_hash.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
library.memcached_generate_hash.restype = ctypes.c_uint32


def placements(servers):
    client = library.memcached_create(None)
    assert library.memcached_behavior_set(client, KETAMA_WEIGHTED, 1) == 0
    assert library.memcached_behavior_get(client, KETAMA_WEIGHTED) == 1
    for host, port, weight in servers:
        if host.startswith("/"):
            add = library.memcached_server_add_unix_socket_with_weight
            added = add(client, host.encode(), weight)
        else:
            added = library.memcached_server_add_with_weight(client, host.encode(), port, weight)
        assert added == 0, added
    keys = (f"key:{number}".encode() for number in range(KEYS))
    placed = [library.memcached_generate_hash(client, key, len(key)) for key in keys]
    library.memcached_free(client)
    return placed


def name(host, port):
    return host if port == DEFAULT_PORT else f"{host}:{port}"


chance = random.Random(6)
lists = [
    [(f"10.0.0.{number}", 5273, 1) for number in range(1, 5)],
    [(f"10.0.0.{number}", DEFAULT_PORT, 1) for number in range(1, 5)],
    [("cache-a", 11211, 1), ("cache-b", 11211, 2), ("cache-c", 11212, 3)],
    [("127.0.0.1", 5273, 10), ("127.0.0.1", 5274, 1)],
    [("only", 5273, 7)],
    [("/run/cache-a.sock", 0, 1), ("/run/cache-b.sock", 0, 2), ("/run/cache-c.sock", 0, 1)],
]
for _ in range(5):
    lists.append([
        (f"host{chance.randrange(1000)}.example", chance.choice([11211, 5273, 22122]),
         chance.randrange(1, 100))
        for _ in range(chance.randrange(2, 16))
    ])

with open(pathlib.Path(__file__).with_name("placements.txt"), "w") as out:
    for servers in lists:
        print(*(f"{name(host, port)}={weight}" for host, port, weight in servers), file=out)
        print("".join(f"{server:x}" for server in placements(servers)), file=out)
