//go:build !cgo

package formatters

// threadStacks come from the Go heap.
const threadStacks = 0
