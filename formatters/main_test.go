package formatters_test

import (
	"os"
	"testing"

	"lorikeet/formatters"
)

// TestMain makes the test binary a worker when the tests start it as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "formatter-worker" {
		if err := formatters.RunWorker(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
