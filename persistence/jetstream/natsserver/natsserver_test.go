package natsserver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/persistence/jetstream/natsserver"
)

func start(t *testing.T, cfg natsserver.Config) (*natsserver.Server, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if cfg.StoreDir == "" {
		cfg.StoreDir = t.TempDir()
	}
	cfg.NoSync = true
	s, err := natsserver.Start(ctx, cfg)
	if err == nil {
		t.Cleanup(s.Close)
	}
	return s, err
}

func TestBadConfigIsRefused(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]natsserver.Config{
		"address":                     {Listen: "nowhere"},
		"port":                        {Listen: "127.0.0.1:70000"},
		"open without a secret":       {Listen: "0.0.0.0:0"},
		"all without a secret":        {Listen: ":0"},
		"host name without a secret":  {Listen: "lorikeet.example:0"},
		"cluster without a secret":    {Name: "a", ClusterName: "c", ClusterListen: "0.0.0.0:0"},
		"cluster without a name":      {ClusterListen: "127.0.0.1:0"},
		"route":                       {Name: "a", ClusterName: "c", ClusterListen: "127.0.0.1:0", Routes: []string{"other"}},
		"address of the cluster":      {Name: "a", ClusterName: "c", ClusterListen: "127.0.0.1"},
		"a folder that can't be made": {StoreDir: "/dev/null/x"},
	} {
		if _, err := start(t, cfg); err == nil {
			t.Errorf("%s: the server started", name)
		}
	}
	if _, err := natsserver.Start(t.Context(), natsserver.Config{}); err == nil {
		t.Error("a server without a folder started")
	}
}

func TestWithoutListenerOnlyTheProcessCanConnect(t *testing.T) {
	t.Parallel()
	s, err := start(t, natsserver.Config{Secret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if url := s.ClientURL(); url != "" || s.ClusterAddr() != "" {
		t.Errorf("the server listens at %q %q", url, s.ClusterAddr())
	}
	nc, err := nats.Connect("", s.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Flush(); err != nil {
		t.Error(err)
	}
	if n := nc.MaxPayload(); n != 8<<20 {
		t.Errorf("max payload %d", n)
	}
}

// A cluster that has no majority is not ready, and says so.
func TestMajorityIsMissing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := natsserver.Start(ctx, natsserver.Config{
		Name: "a", StoreDir: t.TempDir(), ClusterName: "c", ClusterListen: "127.0.0.1:0", Routes: []string{"127.0.0.1:1", "127.0.0.1:2"},
	})
	if err == nil {
		s.Close()
		t.Fatal("the server says that it is ready")
	}
	if !strings.Contains(err.Error(), "majority") {
		t.Error(err)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}
func (b *syncBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

func TestLogHoldsNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "very/secret text"
	log := &syncBuffer{}
	s, err := start(t, natsserver.Config{
		Listen: "127.0.0.1:0", Secret: secret,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	if nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(natsserver.User, secret+"x")); err == nil {
		nc.Close()
		t.Error("connected with a wrong secret")
	}
	s.Close()
	text := log.String()
	if !strings.Contains(text, "nats-server") || strings.Contains(text, "secret text") || strings.Contains(text, "very%2F") {
		t.Errorf("log: %s", text)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := start(t, natsserver.Config{Listen: "127.0.0.1:0", TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	for name, opts := range map[string][]nats.Option{"network": {nats.Secure(&tls.Config{RootCAs: pool})}, "process": s.ClientOptions()} {
		nc, err := nats.Connect(s.ClientURL(), opts...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := nc.TLSConnectionState(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		nc.Close()
	}
}
