//go:build race

package formatters

// raceFactor: the race detector keeps several bytes for each byte of memory.
const raceFactor = 12
