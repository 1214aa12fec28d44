//go:build !race

package formatters_test

import "time"

const timeout = 100 * time.Millisecond
