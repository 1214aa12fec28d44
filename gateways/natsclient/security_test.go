package natsclient

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"lorikeet/gateways/gatewaystest"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// refused waits until the server was tried, and gives the reason for which it could not be used.
func refused(t *testing.T, p v3.PubSub) string {
	t.Helper()
	c := open(t, Config{PubSub: p})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if s := c.Connection(); s.LastError != "" {
			if s.State != messages.ConnectionConnecting || s.LastErrorAt == nil {
				t.Errorf("state %+v", s)
			}
			return s.LastError
		}
	}
	t.Fatal("the server was not tried")
	return ""
}

func TestTLSWithAClientCertificate(t *testing.T) {
	pki := gatewaystest.NewPKI(t)
	s, _ := startServer(t, -1, func(o *server.Options) { o.TLSConfig, o.TLSVerify, o.TLSTimeout = pki.Server, true, 10 })
	url := strings.Replace(s.ClientURL(), "nats://", "tls://", 1)
	p := config(url)
	p.NATS.TLSCA, p.NATS.TLSClientCert, p.NATS.TLSClientKey = pki.CA, pki.ClientCert, pki.ClientKey
	deliver(t, open(t, Config{PubSub: p}), event(1, messages.EventUplink))
	p = config(url)
	if got := refused(t, p); !strings.Contains(got, "unknown authority") {
		t.Errorf("without the CA: %s", got)
	}
	p.NATS.TLSCA = pki.CA
	if got := refused(t, p); got == "" {
		t.Error("let in without a certificate")
	}
}

func newUser(t *testing.T) (seed, public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return string(secret), public
}

func TestLoginWithAnNkey(t *testing.T) {
	seed, public := newUser(t)
	s, _ := startServer(t, -1, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} })
	p := config(s.ClientURL())
	p.NATS.NkeySeed = seed
	deliver(t, open(t, Config{PubSub: p}), event(1, messages.EventUplink))
	p.NATS.NkeySeed, _ = newUser(t)
	if got := refused(t, p); !strings.Contains(got, "Authorization") || strings.Contains(got, p.NATS.NkeySeed) {
		t.Error(got)
	}
}

func TestLoginWithCredentials(t *testing.T) {
	operator, account := create(t, nkeys.CreateOperator), create(t, nkeys.CreateAccount)
	seed, public := newUser(t)
	operatorClaims := jwt.NewOperatorClaims(publicKey(t, operator))
	accountClaims := jwt.NewAccountClaims(publicKey(t, account))
	accountJWT, err := accountClaims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	userJWT, err := jwt.NewUserClaims(public).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(publicKey(t, account), accountJWT); err != nil {
		t.Fatal(err)
	}
	s, _ := startServer(t, -1, func(o *server.Options) {
		o.TrustedOperators, o.AccountResolver = []*jwt.OperatorClaims{operatorClaims}, resolver
	})
	creds, err := jwt.FormatUserConfig(userJWT, []byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	p := config(s.ClientURL())
	p.NATS.Credentials = string(creds)
	deliver(t, open(t, Config{PubSub: p}), event(1, messages.EventUplink))
	if got := refused(t, config(s.ClientURL())); !strings.Contains(got, "Authorization") {
		t.Error(got)
	}
}

func create(t *testing.T, make func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	pair, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func publicKey(t *testing.T, pair nkeys.KeyPair) string {
	t.Helper()
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func TestBadCredentialsAreRefusedWithoutQuotingThem(t *testing.T) {
	t.Parallel()
	seed, _ := newUser(t)
	for name, change := range map[string]func(*v3.NATSProvider){
		"two":         func(n *v3.NATSProvider) { n.Credentials, n.NkeySeed = "x", seed },
		"no creds":    func(n *v3.NATSProvider) { n.Credentials = seed },
		"no seed":     func(n *v3.NATSProvider) { n.NkeySeed = "hunter2" },
		"cut seed":    func(n *v3.NATSProvider) { n.NkeySeed = seed[:40] },
		"certificate": func(n *v3.NATSProvider) { n.TLSClientCert, n.TLSClientKey = []byte("hunter2"), []byte("hunter2") },
		"CA":          func(n *v3.NATSProvider) { n.TLSCA = []byte("hunter2") },
		"stream":      func(n *v3.NATSProvider) { n.JetStream = &v3.NATSJetStream{Enabled: true, Stream: "A.B"} },
	} {
		p := config("nats://127.0.0.1")
		change(p.NATS)
		err := Check(p)
		if messages.CodeOf(err) != messages.CodeInvalid || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), seed[:40]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOrderOfEachDeviceOverConnectionsThatBreak delivers as the integration actor does: one event of a device after the other, again until it worked.
func TestOrderOfEachDeviceOverConnectionsThatBreak(t *testing.T) {
	s, _ := startServer(t, -1, nil)
	sub := subscribe(t, s, "lora.app1.up")
	c := open(t, Config{PubSub: config("nats://" + gatewaystest.BreakingProxy(t, strings.TrimPrefix(s.ClientURL(), "nats://"), 2500))})
	const devices, events = 4, 50
	var all sync.WaitGroup
	for d := range uint64(devices) {
		all.Go(func() {
			for n := range uint64(events) {
				deliver(t, c, event(d*1000+n, messages.EventUplink))
			}
		})
	}
	next := map[int]int{}
	for done := 0; done < devices; {
		m, err := sub.NextMsg(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscanf(string(m.Data), `{"n":%d}`, &n); err != nil {
			t.Fatal(err)
		}
		switch device, n := n/1000, n%1000; {
		case n > next[device]:
			t.Fatalf("device %d: event %d after %d", device, n, next[device]-1)
		case n == next[device]: // others are repeats
			if next[device]++; next[device] == events {
				done++
			}
		}
	}
	all.Wait()
	if got := c.Connection(); got.Connects < 2 || got.LastError == "" {
		t.Errorf("state %+v", got)
	}
}

func TestConnectionState(t *testing.T) {
	s, stop := startServer(t, -1, nil)
	c := open(t, Config{PubSub: config(s.ClientURL())})
	deliver(t, c, event(1, messages.EventUplink))
	if got := c.Connection(); got.State != messages.ConnectionConnected || got.Connects != 1 || got.LastError != "" || got.Since.IsZero() {
		t.Errorf("state %+v", got)
	}
	stop()
	for deadline := time.Now().Add(time.Minute); c.Connection().State != messages.ConnectionConnecting; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the loss is not noticed")
		}
	}
	if err := c.Close(); err != nil || errors.Is(err, messages.ErrPermanent) {
		t.Error(err)
	}
}
