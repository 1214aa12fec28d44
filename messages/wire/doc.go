// Package wire holds the protobuf messages between the nodes of a cluster.
package wire
