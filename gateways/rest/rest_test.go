package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/gateways"
	"lorikeet/gateways/gatewaystest"
	"lorikeet/messages"
)

// open serves on a port.
func (d *door) open() *Server {
	d.Helper()
	s, err := Open(d.server.cfg)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			d.Error(err)
		}
	})
	return s
}

func TestTheSimulatorCanProvision(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	s := d.open()
	c := simulator.NewClient("http://"+s.Addr(), adminKey)
	if err := c.CreateApplication(t.Context(), "app1"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateApplication(t.Context(), "app1"); err != nil {
		t.Fatal("an application that exists is no error to the simulator:", err)
	}
	if err := c.SetFormatter(t.Context(), "app1", messages.Formatter{Kind: messages.FormatterLua, Parameter: "return {}"}); err != nil {
		t.Fatal(err)
	}
	ids := []simulator.Identity{
		{DeviceID: "dev1", DevEUI: messages.EUI64{1}, JoinEUI: messages.EUI64{2}, AppKey: messages.Key{3}},
		{DeviceID: "dev2", DevEUI: messages.EUI64{4}, ABP: &simulator.Session{DevAddr: messages.DevAddr{5}, NwkSKey: messages.Key{6}, AppSKey: messages.Key{7}}},
	}
	for want := range 2 {
		existed, err := c.CreateDevices(t.Context(), "app1", ids, simulator.EU868, 0)
		if err != nil || existed != 2*want {
			t.Fatalf("devices created: %d existed, %v", existed, err)
		}
	}
	if state, ok := d.devices.state("app1", "dev2"); !ok || state.Session.Keys.AppSKey == nil {
		t.Error("the ABP device has no session")
	}
	key, err := c.CreateAPIKey(t.Context(), "app1", "simulator")
	if err != nil || !strings.HasPrefix(key, "NNSXS.") {
		t.Fatalf("API key %q, %v", key, err)
	}
	app := simulator.NewClient("http://"+s.Addr(), key)
	err = app.Do(t.Context(), "POST", "/as/applications/app1/devices/dev2/down/push", map[string]any{"downlinks": []map[string]any{{"f_port": 1, "frm_payload": "AQI="}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), "DELETE", "/applications/app1/api-keys/"+strings.Split(key, ".")[1], nil, nil); err != nil {
		t.Fatal(err)
	}
	d.with(key).do("GET", "/applications/app1", nil).fails(401, "unauthenticated")
}

func TestCloseWaitsForRequests(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	d := newDoor(t, func(c *Config) {
		c.Ready = func() error { close(entered); <-release; return nil }
	})
	s, err := Open(d.server.cfg)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		res, err := client.Get("http://" + s.Addr() + "/readyz")
		if err != nil {
			answered <- 0
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		answered <- res.StatusCode
	}()
	<-entered
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	close(release)
	if code := <-answered; code != 200 {
		t.Errorf("the running request got HTTP %d", code)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error("Close again:", err)
	}
	if _, err := client.Get("http://" + s.Addr() + "/readyz"); err == nil {
		t.Error("the port is still open")
	}
}

func TestTheSameIsServedOverTLS(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	pki, dir, cfg := gatewaystest.NewPKI(t), t.TempDir(), d.server.cfg
	cfg.ListenTLS, cfg.TLS = "127.0.0.1:0", gateways.TLSFiles{Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "HTTPS certificate") {
		t.Errorf("without a certificate: %v", err)
	}
	for path, content := range map[string][]byte{cfg.TLS.Cert: pki.ServerCert, cfg.TLS.Key: pki.ServerKey} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pki.CA)
	for protocol, transport := range map[int]*http.Transport{
		1: {DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}},
		2: {ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}},
	} {
		t.Cleanup(transport.CloseIdleConnections)
		req, _ := http.NewRequest("GET", "https://"+s.TLSAddr()+prefix+"/applications", nil)
		req.Header.Set("Authorization", "Bearer "+adminKey)
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 200 || res.ProtoMajor != protocol {
			t.Errorf("HTTP/%d: status %d over HTTP/%d", protocol, res.StatusCode, res.ProtoMajor)
		}
	}
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := plain.Get("http://" + s.Addr() + "/healthz")
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("the plain door: %v %v", res, err)
	}
	_ = res.Body.Close()
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := Open(Config{Listen: "127.0.0.1:0"}); err == nil {
		t.Error("a server without a registry was opened")
	}
	d := newDoor(t)
	s := d.open()
	cfg := d.server.cfg
	cfg.Listen = s.Addr()
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("a port in use gives %v", err)
	}
}
