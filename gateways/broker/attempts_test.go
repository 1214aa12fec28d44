package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestFailedLoginsOfAnAddressAreLimited(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	a := newAttempts(func() time.Time { return now })
	good, bad := credentials{username: "app1", apiKey: "good"}, credentials{username: "app1", apiKey: "bad"}
	a.succeeded("here", good)
	for n := range loginFailures {
		if !a.allowed("here", bad) {
			t.Fatalf("refused after %d failures", n)
		}
		a.failed("here", bad)
	}
	if a.allowed("here", bad) || a.allowed("here", credentials{username: "app1", apiKey: "new"}) {
		t.Error("still heard")
	}
	if !a.allowed("here", good) || !a.allowed("elsewhere", bad) {
		t.Error("someone else is locked out")
	}
	now = now.Add(time.Second)
	if !a.allowed("here", credentials{username: "app1", apiKey: "new"}) {
		t.Error("locked out for long")
	}
	now = now.Add(time.Hour)
	a.failed("here", good) // the key was revoked
	for range loginFailures {
		a.failed("here", bad)
	}
	if a.allowed("here", good) {
		t.Error("a revoked key is trusted")
	}
	for n := range maxAddresses + 10 {
		now = now.Add(time.Millisecond)
		a.failed(fmt.Sprint("host", n), bad)
	}
	if len(a.hosts) > maxAddresses {
		t.Errorf("%d addresses are remembered", len(a.hosts))
	}
	for n := range maxTrusted + 10 {
		a.succeeded("here", credentials{username: fmt.Sprint(n)})
	}
	if n := len(a.hosts["here"].trusted); n > maxTrusted {
		t.Errorf("%d logins are remembered", n)
	}
}

func TestTooManyFailedLoginsAreRefusedUnheard(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	connect(t, s, "c", "app1", "all")
	login := func(version byte, key string) byte {
		c := dial(t, s)
		c.version = version
		c.send(t, connectPacket(version, "d", "app1", key))
		defer func() { _ = c.Close() }()
		return c.expect(t, packets.Connack).ReasonCode
	}
	began := time.Now()
	for n := 0; login(5, "wrong") != packets.ErrConnectionRateExceeded.Code; n++ {
		if limit := loginFailures + int(time.Since(began).Seconds()+1)*failuresPerSecond; n > limit {
			t.Fatalf("%d failures are heard", n)
		}
	}
	if code := login(5, "all"); code != 0 {
		t.Errorf("CONNACK %#x for a client that has been here before", code)
	}
}
