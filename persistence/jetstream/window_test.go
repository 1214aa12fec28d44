package jetstream

import (
	"context"
	"testing"
	"time"

	"lorikeet/messages"
)

// A commit that finds too many before it waits without having left: its outcome is known.
func TestCommitWaitsForItsPlace(t *testing.T) {
	t.Parallel()
	s := openSingle(t)
	id := messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}
	w := s.window(s.names.journal(s.names.shard(id.ApplicationID)))
	for range windowSize {
		w <- struct{}{}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Commit(short, messages.Commit{Device: id, Session: []byte("no")}); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("got %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Commit(t.Context(), messages.Commit{Device: id, Session: []byte("yes")})
		done <- err
	}()
	<-w
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.LoadSession(t.Context(), id); err != nil || string(got) != "yes" {
		t.Errorf("session %q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
