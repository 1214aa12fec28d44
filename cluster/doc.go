// Package cluster finds devices: the directory maps what is on air to a device, and Local asks the actor of a device, waking it if it sleeps.
// On one node both are in memory and nothing of protoactor's cluster is linked.
package cluster
