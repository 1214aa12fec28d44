// Package node makes one of many: it keeps the list of the nodes that live, says which of them owns a device, and brings messages to a device's actor
// wherever it lives. Single-node mode does not link it.
//
// # Membership
//
// Each node renews a record in a JetStream bucket four times a lease, by compare-and-set. Every node watches the bucket and judges by its own monotonic
// clock how long it has not seen a renewal of another; one that is silent for a lease is marked as removed, by compare-and-set as well, so that its next
// renewal and the removal exclude each other. Who is blind does not judge: silence counts only while the node sees its own renewals come back
// through its watch, and after a gap everybody has time anew. So an outage of NATS removes nobody. A node whose renewals fail for a lease is suspended:
// it handles nothing, and goes on when it reaches NATS again and was not removed meanwhile. The rules are pure functions (view.go).
//
// # Placement
//
// Identities fall into 4096 fixed shards; a shard belongs to the living node with the highest hash of shard and node name. Nodes may disagree for some
// milliseconds. Two activations of one device can then exist, and only one of them can commit: the fence is the store's expected revision.
//
// # Messages
//
// A message for a device of another node travels as a wire.DeviceMessage to one of 16 keepers there, which asks its own table again whether it owns the
// device. "Moved" means that nothing was done. A request is sent again only when nothing was done or when its command may be repeated; a frame (Tracked)
// is sent again until the owner has settled it.
//
// # Detours
//
// Two nodes that both reach NATS and not each other stay members. A node that owes an answer for a second is probed; if it does not answer that within
// another second, its messages go through NATS, sealed, until a probe each second shows that it answers directly. A node that is only slow, or waits for
// JetStream, answers probes. The frames of a device stay in order.
//
// # What is not promised
//
// A command that is not Repeatable and was on its way to a node that dies ends with an unknown outcome.
//
// # What was rejected
//
// protoactor's gossip as a source of membership: it blocks members for ever and one-sidedly; it is idle here. A bucket whose keys expire as the lease: the
// server's clock and its restarts would then decide, and an outage of NATS would remove everybody. protoactor's placement: it asks one actor a node,
// and its answers are cached beyond the life of the owner.
package node
