// Package messages holds what the parts of Lorikeet say to each other: typed identifiers and keys, radio frames and their
// metadata, commands to a device and their replies, the records of the store, and the errors a user can cause.
// It imports no other package of Lorikeet; everything may import it.
package messages
