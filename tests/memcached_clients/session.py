"""A session of pymemcache with Larder."""

import sys

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError
from pymemcache.serde import pickle_serde

port = int(sys.argv[1])
client = Client(("127.0.0.1", port), timeout=10, connect_timeout=10, default_noreply=False)


def check(name, got, expected):
    assert got == expected, f"{name}: got {got!r}, expected {expected!r}"


check("flush_all", client.flush_all(), True)
check("get, a miss", client.get("none"), None)
check("get, a miss with a default", client.get("none", default=7), 7)
check("set", client.set("key", b"value"), True)
check("get", client.get("key"), b"value")
check("add, present", client.add("key", b"other"), False)
check("add", client.add("added", b"1"), True)
check("replace, absent", client.replace("absent", b"1"), False)
check("append", client.append("key", b"+"), True)
check("prepend", client.prepend("key", b"-"), True)
check("get, joined", client.get("key"), b"-value+")

value, version = client.gets("key")
check("cas", client.cas("key", b"new", version), True)
check("cas, too late", client.cas("key", b"newer", version), False)
check("cas, absent", client.cas("absent", b"x", b"1"), None)

check("set, a number", client.set("number", b"10"), True)
check("incr", client.incr("number", 5), 15)
check("decr", client.decr("number", 100), 0)
check("incr, absent", client.incr("absent", 1), None)
try:
    client.incr("key", 1)
    raise AssertionError("incremented what is no number")
except MemcacheClientError as error:
    assert b"non-numeric" in error.args[0] or "non-numeric" in str(error), error

many = {f"many-{n}": f"value {n}".encode() for n in range(2000)}
check("set_many", client.set_many(many), [])
check("get_many", client.get_many(list(many)), many)
check("gets_many", {k: v for k, (v, _) in client.gets_many(list(many)[:50]).items()},
      dict(list(many.items())[:50]))
check("delete_many", client.delete_many(list(many)[:10]), True)
check("get_many, fewer", len(client.get_many(list(many))), 1990)

check("touch", client.touch("key", 100), True)
check("touch, absent", client.touch("absent", 100), False)
check("set, expired", client.set("gone", b"x", expire=-1), True)
check("get, expired", client.get("gone"), None)
check("delete", client.delete("key"), True)
check("delete, absent", client.delete("key"), False)

large = bytes(range(256)) * 12_000
check("set, large", client.set("large", large), True)
check("get, large", client.get("large"), large)
check("get_many, large among others", client.get_many(["added", "large"]),
      {"added": b"1", "large": large})
try:
    client.set("too large", large)
    raise AssertionError("stored under a key with a space")
except MemcacheClientError:
    pass
try:
    client.set("too-large", bytes(20_000_000))
    raise AssertionError("stored more than the server takes")
except MemcacheServerError as error:
    assert "too large" in str(error), error
check("get, after a refusal", client.get("added"), b"1")

for n in range(500):
    client.set(f"quiet-{n}", b"q", noreply=True)
    client.delete(f"quiet-{n}", noreply=True)
check("get, after many without replies", client.get("quiet-499"), None)

stats = client.stats()
assert stats[b"threads"] == 2 and stats[b"curr_items"] > 1990, stats
assert client.stats("settings")[b"cas_enabled"], "settings"
assert client.version().startswith(b"1.6"), client.version()
check("flush_all, later", client.flush_all(delay=3600), True)
check("raw_command, mn", client.raw_command("mn", b"\r\n"), b"MN")
check("raw_command, mg", client.raw_command("mg added v s", b"\r\n1\r\n"), b"VA 1 s1")

objects = Client(("127.0.0.1", port), serde=pickle_serde, default_noreply=False)
check("set, an object", objects.set("object", {"a": [1, 2, None]}), True)
check("get, an object by its flags", objects.get("object"), {"a": [1, 2, None]})
client.quit()
print("pymemcache: passed")
