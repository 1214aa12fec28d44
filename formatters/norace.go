//go:build !race

package formatters

const raceFactor = 1
