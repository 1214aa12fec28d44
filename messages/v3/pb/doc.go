// Package pb is the protobuf form of what package v3 has as JSON: events (ApplicationUp) and downlinks, with the names, field numbers and
// types of The Things Stack v3, so that clients generated from its API definition work unchanged.
//
// Events are made once, as JSON, and converted here for those who want protobuf; requests are converted to JSON and read by v3, so that
// both forms obey the same rules.
package pb
