// Package record holds the protobuf records that device actors keep in the store.
package record
