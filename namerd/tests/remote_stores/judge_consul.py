"""Judges the fake Consul with a client that is not ours: py-consul. Usage: judge_consul.py PORT TOKEN"""

import sys
import threading
import time

import consul

port, token = int(sys.argv[1]), sys.argv[2]
client = consul.Consul(host="127.0.0.1", port=port, token=token)
kv = client.kv
done = 0


def check(what, found, wanted):
    global done
    if found != wanted:
        sys.exit(f"{what}: {found!r} and not {wanted!r}")
    done += 1


index, entry = kv.get("judge/none")
check("an absent key", entry, None)
index = int(index)
check("the index of an absent key", index > 0, True)
check("put", kv.put("judge/a", "one"), True)
at, entry = kv.get("judge/a")
check("value", entry["Value"], b"one")
check("key", entry["Key"], "judge/a")
check("a new key", entry["CreateIndex"], entry["ModifyIndex"])
check("the index of a key is its ModifyIndex", int(at), entry["ModifyIndex"])
check("cas 0 on a key that is there", kv.put("judge/a", "x", cas=0), False)
check("cas with an old index", kv.put("judge/a", "x", cas=entry["ModifyIndex"] - 1), False)
check("cas with the index", kv.put("judge/a", "two", cas=entry["ModifyIndex"]), True)
_, later = kv.get("judge/a")
check("value", later["Value"], b"two")
check("ModifyIndex grows", later["ModifyIndex"] > entry["ModifyIndex"], True)
check("CreateIndex stays", later["CreateIndex"], entry["CreateIndex"])
check("cas 0 on a new key", kv.put("judge/b/c", "three", cas=0), True)
check("an odd key", kv.put("judge/ü b?c=d&e#f", "odd"), True)
check("an odd key, read", kv.get("judge/ü b?c=d&e#f")[1]["Value"], b"odd")
check("an empty value", kv.put("judge/empty", ""), True)
check("an empty value, read", kv.get("judge/empty")[1]["Value"], None)
check("keys", kv.get("judge/", keys=True)[1], ["judge/a", "judge/b/c", "judge/empty", "judge/ü b?c=d&e#f"])
check("keys to the separator", kv.get("judge/", keys=True, separator="/")[1][:2], ["judge/a", "judge/b/"])
check("recurse", len(kv.get("judge/", recurse=True)[1]), 4)
check("no keys", kv.get("nobody/", keys=True)[1], None)
for mode in ("default", "consistent", "stale"):
    check(mode, kv.get("judge/a", consistency=mode)[1]["Value"], b"two")
check("the datacenter", kv.get("judge/a", dc="dc1")[1]["Value"], b"two")
try:
    kv.get("judge/a", dc="nowhere")
    sys.exit("an unknown datacenter answers")
except consul.ConsulException:
    done += 1
try:
    consul.Consul(host="127.0.0.1", port=port, token="wrong").kv.get("judge/a")
    sys.exit("a wrong token is accepted")
except consul.ACLPermissionDenied:
    done += 1

at, _ = kv.get("judge/a")
began = time.monotonic()
again, _ = kv.get("judge/a", index=at, wait="300ms")
check("a wait that ends without a change gives the same index", again, at)
check("it has waited", time.monotonic() - began >= 0.3, True)


def write_later():
    time.sleep(0.3)
    consul.Consul(host="127.0.0.1", port=port, token=token).kv.put("judge/a", "four")


threading.Thread(target=write_later).start()
began = time.monotonic()
after, entry = kv.get("judge/a", index=at, wait="20s")
check("a wait that ends with a change", entry["Value"], b"four")
check("it has not waited to its end", time.monotonic() - began < 10, True)
check("its index is larger", int(after) > int(at), True)

check("delete with an old index", kv.delete("judge/a", cas=int(at)), False)
check("delete with the index", kv.delete("judge/a", cas=int(after)), True)
gone, entry = kv.get("judge/a")
check("a deleted key", entry, None)
check("the index after a delete is larger", int(gone) > int(after), True)
check("delete of all", kv.delete("judge/", recurse=True), True)
check("nothing is left", kv.get("judge/", keys=True)[1], None)
print(f"{done} checks passed")
