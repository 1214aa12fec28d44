package formatters_test

import (
	"context"
	"os"
	"testing"
	"time"

	"lorikeet/formatters"
	"lorikeet/messages"
)

// hangingServer is set for a process that runs a script which never ends, to be killed.
const hangingServer = "LORIKEET_TEST_HANGING_SERVER"

func hang() {
	s, err := formatters.Open(formatters.Config{Workers: 1, Timeout: time.Minute})
	if err == nil {
		_, err = s.DecodeUplink(context.Background(), messages.Formatter{Kind: messages.FormatterJavaScript, Parameter: javaScript.Hang}, messages.DecodeInput{})
	}
	panic(err)
}

// TestMain makes the test binary a worker when the tests start it as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "formatter-worker" {
		if err := formatters.RunWorker(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	if os.Getenv(hangingServer) != "" {
		hang()
	}
	os.Exit(m.Run())
}
