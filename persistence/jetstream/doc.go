// Package jetstream is the store of many nodes: everything in a few streams of NATS JetStream, with the method set of package badger.
//
// # A commit is one message
//
// Applications are spread over some journals (streams) by a hash of their id. A commit is one message on the subject of its device, holding the sealed
// session record and the events, published with the sequence of the last message of that subject as its expectation. So record and events are durable
// in one step, the server refuses a commit that was decided on a stale record, the record is the last message of the subject, and the log of an
// application is a filter on one stream. The revision of a record is the sequence of its message. A commit without a record lies on a subject that
// the application has for these, so that it does not touch the record.
//
// The Seq of a log entry is the sequence of its message and its index in there: it grows in commit order and has gaps.
//
// # Unknown outcomes
//
// A publish without an answer may have been written, or may still be on its way. Each write has a nonce, and each try of it the same expectation, so
// that at most one try can succeed. After 0.8 seconds without an answer, and after each refusal, the leader of the stream is asked what follows
// the expected message: our nonce (it was written), nothing (try again), or something else (conflict). Only the end of the caller's context
// leaves an outcome unknown. Commits without a record expect nothing and carry a message id instead, which the server remembers for two minutes.
//
// # Reading
//
// Sessions and documents are read from the leader, which has every acknowledged write. Logs are read by one follower for each application that this
// node reads, which fills a ring of the newest entries; what lies further back is read in batches from any replica, and where that has no more, from
// the leader, so that no entry is passed over. A follower that hears nothing for two seconds begins anew behind its last message.
//
// # Retention
//
// The streams have no age limit, since that would remove the records of silent devices. A trimmer (trim.go) writes these records again, marks in a
// cut for each application what leaves its log, and purges what is older. Each step can be repeated, and several nodes may trim at once.
//
// # Cursors
//
// A cursor is one record. A durable consumer for each integration was considered and not taken: in a cluster each is a raft group of its own, it has
// no compare-and-set, and it ties reading to acknowledging, while an integration reads ahead and settles out of order.
package jetstream
