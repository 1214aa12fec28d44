// Package persistence holds what every store of Lorikeet shares: sealing of secrets under a key-encryption key.
//
// The stores themselves are sub-packages with one method set (see persistencetest.Store, whose contract suite each of them passes):
// badger keeps everything in one folder of one node, jetstream in a NATS cluster for many nodes, memory for the length of a test.
//
// What a store promises: a commit is durable when Commit returns, holds a device's next session record and the events that follow from it
// all or nothing, and is refused when it was decided on a stale revision. The events of one application form one log; Seq grows
// strictly in commit order, and a store may leave gaps (badger and memory number from 1 without any). Integrations follow the log with cursors.
package persistence
