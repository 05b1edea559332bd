// The service of namerd, written from the reference, for clients that others wrote.
namespace py namer

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
