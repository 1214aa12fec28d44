//go:build race

package formatters_test

import "time"

// timeout of calls: the race detector makes interpreters many times slower.
const timeout = 300 * time.Millisecond
