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
// Sessions and documents are read from the leader, which has every acknowledged write; that takes about three times as long as a direct get from any
// replica (0.15 and 0.05 ms from a single server), and is worth it, since a stale record would only lead to a commit that is refused. Logs are
// read by one follower for each application that this node reads, which fills a ring of the newest entries; what lies further back is read through a
// consumer that is kept between the calls, and where its replica has no more the leader is asked, so that no entry is passed over. A follower that
// hears nothing for two seconds begins anew behind its last message.
//
// # Fail-over
//
// If the server that leads a journal stops in order, commits wait about half a second; if it dies, 4 to 9 seconds (the election time-out of
// nats-server; 6.9 s measured with kill -9). Commits that are under way then are made once, and not reported before that is known.
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
