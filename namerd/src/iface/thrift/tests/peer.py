"""Speaks framed thrift to a namerd with thriftpy2, by the IDL beside it. Exits 0 when all is right."""

import os
import sys

import thriftpy2
from thriftpy2.protocol import TBinaryProtocolFactory
from thriftpy2.rpc import make_client
from thriftpy2.transport import TFramedTransportFactory


def path(text):
    return [part.encode() for part in text.split("/") if part]


def text(labels):
    return "".join("/" + (label.decode() if isinstance(label, bytes) else label) for label in labels)


def raw(value):
    return value if isinstance(value, bytes) else value.encode("latin-1")


def main():
    namer = thriftpy2.load(os.path.join(os.path.dirname(os.path.abspath(__file__)), "namer.thrift"), "namer_thrift")
    client = make_client(
        namer.Namer, "127.0.0.1", int(sys.argv[1]), timeout=15000,
        proto_factory=TBinaryProtocolFactory(decode_response=False), trans_factory=TFramedTransportFactory(),
    )

    def ref(stamp, name):
        return namer.NameRef(stamp=stamp, name=path(name), ns="ns")

    def bind(stamp):
        return client.bind(namer.BindReq(dtab="/x=>/svc", name=ref(stamp, "/x"), clientId=[]))

    def ids(bound):
        branches = bound.tree.root.weighted
        return [(branch.weight, text(bound.tree.nodes[branch.id].leaf.id)) for branch in branches]

    bound = bind(b"")
    assert ids(bound) == [(9.0, "/#/test/one"), (1.0, "/#/test/two")], bound
    assert len(raw(bound.stamp)) == 8, bound

    one = client.addr(namer.AddrReq(name=ref(b"", "/#/test/one"), clientId=[])).value.bound.addresses
    facts = sorted((address.port, raw(address.ip), address.meta) for address in one)
    assert facts[0] == (80, bytes([127, 0, 0, 1]), None), facts
    assert facts[1][:2] == (8080, bytes(15) + b"\x01"), facts
    assert raw(facts[1][2].nodeName) == b"seven" and facts[1][2].endpoint_addr_weight == 0.5, facts
    two = client.addr(namer.AddrReq(name=ref(b"", "/#/test/two"), clientId=[])).value
    assert two.neg is not None and two.bound is None, two

    dtab = client.dtab(namer.DtabReq(stamp=b"", ns="ns", clientId=[]))
    assert raw(dtab.dtab) == b"/svc=>9.00*/#/test/a & /#/test/b", dtab

    leaf = namer.DelegateContents(pathLeaf=path("/svc"))
    root = namer.DelegateNode(path=[], dentry="/\\x2f=>~", contents=leaf)
    question = namer.Delegation(stamp=b"", tree=namer.DelegateTree(root=root, nodes={}), ns="ns")
    explained = client.delegate(namer.DelegateReq(dtab="", delegation=question, clientId=[]))
    weights = [branch.weight for branch in explained.tree.root.contents.weighted]
    assert raw(explained.stamp) == bytes(7) + b"\x01" and weights == [9.0, 1.0], explained

    try:
        client.bind(namer.BindReq(dtab="", name=ref(b"", "/"), clientId=[]))
        raise AssertionError("an empty path was bound")
    except namer.BindFailure as failure:
        assert raw(failure.reason) == b"empty path", failure

    print("waiting", flush=True)
    after = bind(raw(bound.stamp))
    assert ids(after) == [(9.0, "/#/test/one"), (1.0, "/#/test/three")], after
    assert raw(after.stamp) != raw(bound.stamp)
    client.close()
    print("ok", flush=True)


main()
