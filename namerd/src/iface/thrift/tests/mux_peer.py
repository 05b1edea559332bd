"""Speaks ThriftMux to a namerd with scales-rpc and the code that the thrift compiler has made beside it. Exits 0 when all is
right."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from gevent import monkey

monkey.patch_all()

from namer import Namer
from namer.ttypes import (
    AddrReq, BindReq, DelegateContents, DelegateNode, DelegateReq, DelegateTree, Delegation, DtabReq, NameRef,
    TransportAddress,
)
from scales.thriftmux import ThriftMux

# The generated structs are put into a set as they are.
TransportAddress.__hash__ = object.__hash__


def path(text):
    return [part.encode() for part in text.split("/") if part]


def ref(stamp, name):
    return NameRef(stamp=stamp, name=path(name), ns="ns")


def bind(stamp, name="/x", dtab="/x=>/svc"):
    return BindReq(dtab=dtab, name=ref(stamp, name), clientId=[])


def ids(bound):
    nodes = bound.tree.nodes
    return [(branch.weight, b"/".join(nodes[branch.id].leaf.id)) for branch in bound.tree.root.weighted]


def fails(call, text):
    try:
        call()
    except Exception as error:
        assert text in str(error), error
        return
    raise AssertionError("no failure with " + text)


def main():
    uri = "tcp://127.0.0.1:" + sys.argv[1]
    client = ThriftMux.NewClient(Namer.Iface, uri, timeout=20, client_id="peer")
    bound = client.bind(bind(b""))
    assert ids(bound) == [(9.0, b"#/test/one"), (1.0, b"#/test/two")], bound
    one = client.addr(AddrReq(name=ref(b"", "/#/test/one"), clientId=[])).value.bound.addresses
    facts = sorted((address.port, address.ip, address.meta and address.meta.nodeName) for address in one)
    assert facts == [(80, bytes([127, 0, 0, 1]), None), (8080, bytes(15) + b"\x01", "seven")], facts
    dtab = client.dtab(DtabReq(stamp=b"", ns="ns", clientId=[])).dtab
    assert dtab == "/svc=>9.00*/#/test/a & /#/test/b", dtab
    leaf = DelegateContents(pathLeaf=path("/svc"))
    root = DelegateNode(path=[], dentry="/\\x2f=>~", contents=leaf)
    question = Delegation(stamp=b"", tree=DelegateTree(root=root, nodes={}), ns="ns")
    explained = client.delegate(DelegateReq(dtab="", delegation=question, clientId=[]))
    assert [branch.weight for branch in explained.tree.root.contents.weighted] == [9.0, 1.0], explained
    fails(lambda: client.bind(bind(b"", "/")), "reason='empty path'")
    fails(lambda: client.bind(bind(b"", dtab="/a=>")), "Internal error processing bind")

    polls = [client.bind_async(bind(bound.stamp)) for _ in range(1000)]
    # One whose client gives up is discarded.
    hasty = ThriftMux.NewClient(Namer.Iface, uri, timeout=1)
    fails(lambda: hasty.bind(bind(bound.stamp)), "")
    print("waiting", flush=True)
    for poll in polls:
        after = poll.get()
        assert ids(after) == [(9.0, b"#/test/one"), (1.0, b"#/test/three")], after
        assert after.stamp != bound.stamp
    print("ok", flush=True)


main()
