//go:build cgo

package formatters

// threadStacks is what the C library may map for stacks of threads that are started after the worker was confined: 8 MiB each, hardly any of it used.
const threadStacks = 16 * 8 << 20
