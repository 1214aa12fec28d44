//go:build race

package formatters_test

import "time"

// timeout of calls: the race detector makes interpreters some ten times slower.
const timeout = time.Second
