"""A client of the Mesh API; called by peers.rs with the address and the folder of mesh.proto."""

import sys, tempfile, threading, grpc
from grpc_tools import protoc
out = tempfile.mkdtemp()
assert protoc.main(["", "-I" + sys.argv[2], "--python_out=" + out, "--grpc_python_out=" + out, "mesh.proto"]) == 0
sys.path.insert(0, out)
import mesh_pb2 as m, mesh_pb2_grpc as s
channel = grpc.insecure_channel(sys.argv[1])
path = lambda *labels: m.Path(elems=[l.encode() for l in labels])
bind = m.BindReq(root=path("default"), name=path("svc", "x"))
trees = s.InterpreterStub(channel).StreamBoundTree(bind, timeout=15)
tree = next(trees).tree
assert [b.HasField("weight") for b in tree.union.trees] == [True, True], tree
resolver = s.ResolverStub(channel)
streams = [resolver.StreamReplicas(m.ReplicasReq(id=path("#", "t", "a")), timeout=15) for _ in range(300)]
for stream in streams:
    replicas = next(stream)
    while replicas.WhichOneof("result") == "pending":
        replicas = next(stream)
    endpoint = replicas.bound.endpoints[0]
    assert endpoint.HasField("inet_af") and endpoint.inet_af == 0 and endpoint.port == 80, endpoint
    stream.cancel()
try:
    s.DelegatorStub(channel).GetDtab(m.DtabReq(root=path("a", "b")), timeout=5)
    assert False
except grpc.RpcError as e:
    assert e.code() == grpc.StatusCode.INVALID_ARGUMENT, e
    assert e.details() == "Invalid root: `/a/b` must have exactly one segment", e
try:
    channel.unary_unary("/io.linkerd.mesh.Other/Call")(b"", timeout=5)
    assert False
except grpc.RpcError as e:
    # HTTP status 400, as in Linkerd 1, which gRPC's own clients take for this.
    assert e.code() == grpc.StatusCode.INTERNAL and "400" in e.details(), e
print("followed", flush=True)
sys.stdin.readline()
assert next(trees).tree.WhichOneof("node") == "neg"
print("well", flush=True)
