"""Speaks framed thrift to a namerd by an IDL of its own, with a library that knows nothing of it. Exits 0 when all is right."""

import os
import sys
import tempfile

import thriftpy2
from thriftpy2.protocol import TBinaryProtocolFactory
from thriftpy2.rpc import make_client
from thriftpy2.transport import TFramedTransportFactory

IDL = """
typedef list<binary> Path
struct Void {}
struct NameRef { 1: binary stamp, 2: Path name, 3: string ns }
struct BindReq { 1: string dtab, 2: NameRef name, 3: Path clientId }
struct BoundName { 1: Path id, 2: Path residual }
struct WeightedNodeId { 1: double weight, 2: i32 id }
union BoundNode {
  1: Void neg, 2: Void empty, 3: Void fail, 4: BoundName leaf, 5: list<i32> alt, 6: list<WeightedNodeId> weighted
}
struct BoundTree { 1: BoundNode root, 2: map<i32, BoundNode> nodes }
struct Bound { 1: binary stamp, 2: BoundTree tree, 3: string ns }
exception BindFailure { 1: string reason, 2: i32 retryInSeconds, 3: NameRef name, 4: string ns }
struct AddrReq { 1: NameRef name, 2: Path clientId }
struct AddrMeta { 1: optional string authority, 2: optional string nodeName, 3: optional double endpoint_addr_weight }
struct TransportAddress { 1: binary ip, 2: i32 port, 3: optional AddrMeta meta }
struct BoundAddr { 1: set<TransportAddress> addresses, 2: optional AddrMeta meta }
union AddrVal { 1: BoundAddr bound, 2: Void neg }
struct Addr { 1: binary stamp, 2: AddrVal value }
exception AddrFailure { 1: string reason, 2: i32 retryInSeconds, 3: NameRef name }
struct Transformation { 1: BoundName value, 2: i32 tree }
union DelegateContents {
  1: string error, 2: Void empty, 3: Void fail, 4: Void neg, 5: i32 delegate, 6: BoundName boundLeaf,
  7: Path pathLeaf, 8: list<i32> alt, 9: list<WeightedNodeId> weighted, 10: Transformation transformation
}
struct DelegateNode { 1: Path path, 2: string dentry, 3: DelegateContents contents }
struct DelegateTree { 1: DelegateNode root, 2: map<i32, DelegateNode> nodes }
struct Delegation { 1: binary stamp, 2: DelegateTree tree, 3: string ns }
struct DelegateReq { 1: string dtab, 2: Delegation delegation, 3: Path clientId }
exception DelegationFailure { 1: string reason }
struct DtabReq { 1: binary stamp, 2: string ns, 3: Path clientId }
struct DtabRef { 1: binary stamp, 2: string dtab }
exception DtabFailure { 1: string reason }
service Namer {
  Bound bind(1: BindReq req) throws (1: BindFailure failure)
  Addr addr(1: AddrReq req) throws (1: AddrFailure failure)
  Delegation delegate(1: DelegateReq req) throws (1: DelegationFailure failure)
  DtabRef dtab(1: DtabReq req) throws (1: DtabFailure failure)
}
"""


def path(text):
    return [part.encode() for part in text.split("/") if part]


def text(labels):
    return "".join("/" + (label.decode() if isinstance(label, bytes) else label) for label in labels)


def raw(value):
    return value if isinstance(value, bytes) else value.encode("latin-1")


def main():
    folder = tempfile.mkdtemp()
    idl = os.path.join(folder, "namer.thrift")
    with open(idl, "w") as file:
        file.write(IDL)
    namer = thriftpy2.load(idl, "namer_thrift")
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
