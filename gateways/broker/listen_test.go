package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/gateways"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	a.cert, a.key = a.sign(t, "authority", true)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t testing.TB, name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// write makes a certificate and puts it into dir; it gives its serial number.
func (a *authority) write(t testing.TB, dir, name string) (files gateways.TLSFiles, serial string) {
	t.Helper()
	cert, key := a.sign(t, name, false)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files = gateways.TLSFiles{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
	for path, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: cert.Raw}, files.Key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files, cert.SerialNumber.String()
}

func (a *authority) writeCA(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// everyDoor is a server that listens in all ways.
func everyDoor(t *testing.T, w *world, change ...func(*Config)) (*Server, *authority) {
	t.Helper()
	a := newAuthority(t)
	cfg := w.config()
	cfg.ListenTLS, cfg.ListenWebSocket, cfg.ListenWebSocketTLS = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.TLS, _ = a.write(t, t.TempDir(), "server")
	for _, f := range change {
		f(&cfg)
	}
	return start(t, cfg), a
}

func through(url string, a *authority) func(*paho.ClientOptions) {
	return func(o *paho.ClientOptions) {
		o.Servers = nil
		o.AddBroker(url).SetTLSConfig(&tls.Config{RootCAs: a.pool})
	}
}

func TestEveryDoorLeadsToTheSameBroker(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s, a := everyDoor(t, w)
	for name, url := range map[string]string{
		"tcp": "tcp://" + s.Addr(), "tls": "ssl://" + s.TLSAddr(), "ws": "ws://" + s.WebSocketAddr(false) + "/mqtt", "wss": "wss://" + s.WebSocketAddr(true) + "/mqtt",
	} {
		c := connect(t, s, name, "app1", "all", through(url, a))
		if code := c.subscribe(t, "v3/+/devices/+/up", 1); code != 1 {
			t.Fatalf("%s: SUBACK %#x", name, code)
		}
		if err := wait(c.Publish("v3/app1/devices/dev1/down/push", 1, false, push)); err != nil || w.next(t).verb != "push" {
			t.Fatalf("%s: %v", name, err)
		}
		large := event1(1)
		large.JSON = []byte(strings.Repeat("x", 300<<10))
		s.Publish(large)
		if m := c.next(t); m.payload != string(large.JSON) {
			t.Errorf("%s: %d bytes", name, len(m.payload))
		}
		c.Disconnect(0)
	}
}

func TestSilenceEndsAtEveryDoor(t *testing.T) {
	t.Parallel()
	s, _ := everyDoor(t, newWorld(), func(c *Config) { c.ConnectTimeout = 200 * time.Millisecond })
	for _, addr := range []string{s.Addr(), s.TLSAddr(), s.WebSocketAddr(false), s.WebSocketAddr(true)} {
		for _, first := range []string{"", "GET /mqtt HTTP/1.1\r\nHost: a\r\n", "GET /mqtt HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = c.Write([]byte(first))
			var timeout net.Error
			if _, err := io.Copy(io.Discard, c); asTimeout(err, &timeout) {
				t.Errorf("%s after %q: the connection does not end", addr, first)
			}
			_ = c.Close()
		}
	}
	for s.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestGuardStandsBehindTheWebSocket(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s, _ := everyDoor(t, w)
	// A packet that the library can not read ends one WebSocket and nothing else.
	ws := newRaw(t, websocket.NetConn(context.Background(), dialWebSocket(t, s, ""), websocket.MessageBinary))
	ws.login(t, 5, "c", "app1", "all")
	ws.write(t, []byte{0x82, 6, 0, 1, 0, 0, 1, '#'})
	ws.ends(t)
	ws = newRaw(t, websocket.NetConn(context.Background(), dialWebSocket(t, s, ""), websocket.MessageBinary))
	ws.login(t, 5, "c", "app1", "all")
	w.setKey("all", nil)
	s.KeyChanged("id-of-all")
	if reason := ws.ends(t); reason != reasonNotAuthorized {
		t.Errorf("the reason of the end did not come through the WebSocket: %#x", reason)
	}
}

func dialWebSocket(t testing.TB, s *Server, origin string) *websocket.Conn {
	t.Helper()
	ws, err := tryWebSocket(s, origin, "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func tryWebSocket(s *Server, origin string, protocols ...string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	options := &websocket.DialOptions{Subprotocols: protocols, HTTPHeader: http.Header{}}
	if origin != "" {
		options.HTTPHeader.Set("Origin", origin)
	}
	ws, response, err := websocket.Dial(ctx, "ws://"+s.WebSocketAddr(false)+"/mqtt", options)
	if response != nil && response.Body != nil {
		_ = response.Body.Close()
	}
	return ws, err
}

func TestPagesOfStrangersCanNotConnect(t *testing.T) {
	t.Parallel()
	s, _ := everyDoor(t, newWorld(), func(c *Config) { c.WebSocketOrigins = []string{"*.example.com"} })
	for origin, want := range map[string]bool{
		"": true, "http://" + s.WebSocketAddr(false): true, "https://console.example.com": true, "https://example.org": false, "https://example.com.evil.org": false, "null": false,
	} {
		ws, err := tryWebSocket(s, origin, "mqtt")
		if (err == nil) != want {
			t.Errorf("origin %q: %v", origin, err)
		}
		if ws != nil {
			_ = ws.CloseNow()
		}
	}
	if ws, err := tryWebSocket(s, ""); err == nil {
		_ = ws.CloseNow()
		t.Error("a WebSocket without the subprotocol is taken")
	}
	for _, name := range []string{"mqtt", "mqttv3.1"} {
		ws, err := tryWebSocket(s, "", "other", name)
		if err != nil {
			t.Fatal(err)
		}
		if ws.Subprotocol() != name {
			t.Errorf("subprotocol %q was offered, %q is spoken", name, ws.Subprotocol())
		}
		_ = ws.CloseNow()
	}
	response, err := http.Get("http://" + s.WebSocketAddr(false) + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("GET /: %s", response.Status)
	}
}

func TestTextOverWebSocketIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := everyDoor(t, newWorld())
	ws := dialWebSocket(t, s, "")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pk := connectPacket(4, "c", "app1", "all")
	if err := ws.Write(ctx, websocket.MessageText, encode(t, pk)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("%v", err)
	}
}

func TestPacketsMayCrossMessagesOfAWebSocket(t *testing.T) {
	t.Parallel()
	s, _ := everyDoor(t, newWorld())
	ws := dialWebSocket(t, s, "")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pk := connectPacket(4, "c", "app1", "all")
	for _, b := range encode(t, pk) {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if _, answer, err := ws.Read(ctx); err != nil || len(answer) != 4 || answer[0] != packets.Connack<<4 || answer[3] != 0 {
		t.Errorf("%x %v", answer, err)
	}
	_ = ws.CloseNow()
}

func TestRenewedCertificateIsTakenOver(t *testing.T) {
	t.Parallel()
	a, dir := newAuthority(t), t.TempDir()
	cfg := newWorld().config()
	var serial string
	cfg.TLS, serial = a.write(t, dir, "server")
	cfg.ListenTLS = "127.0.0.1:0"
	s := start(t, cfg)
	shown := func() string {
		c, err := tls.Dial("tcp", s.TLSAddr(), &tls.Config{RootCAs: a.pool})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if got := shown(); got != serial {
		t.Fatalf("serial number %s, want %s", got, serial)
	}
	if err := os.WriteFile(cfg.TLS.Cert, []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(2 * time.Second) // more than they go without being looked at
	for time.Now().Before(later) {           // the former one stays while the new one can't be read
		if got := shown(); got != serial {
			t.Fatalf("serial number %s, want %s", got, serial)
		}
	}
	_, renewed := a.write(t, dir, "server")
	for end := time.Now().Add(patience); shown() != renewed; {
		if time.Now().After(end) {
			t.Fatal("the new certificate is not shown")
		}
	}
}

func TestClientCertificateIsAskedFor(t *testing.T) {
	t.Parallel()
	var files gateways.TLSFiles
	var clients *authority
	s, a := everyDoor(t, newWorld(), func(c *Config) {
		clients = newAuthority(t)
		c.TLS.ClientCA = clients.writeCA(t, t.TempDir())
		files, _ = clients.write(t, t.TempDir(), "client")
	})
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	with := func(certificates ...tls.Certificate) func(*paho.ClientOptions) {
		return func(o *paho.ClientOptions) {
			o.Servers = nil
			o.AddBroker("ssl://" + s.TLSAddr()).SetTLSConfig(&tls.Config{RootCAs: a.pool, Certificates: certificates})
		}
	}
	connect(t, s, "c", "app1", "all", with(pair))
	o := pahoOptions(s, "d", "app1", "all")
	with()(o)
	if err := wait(paho.NewClient(o).Connect()); err == nil {
		t.Error("a client without a certificate is let in")
	}
}

func TestBadCertificateIsAnError(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"no file":      func(c *Config) { c.TLS = gateways.TLSFiles{Cert: "missing.crt", Key: "missing.key"} },
		"no cert":      func(c *Config) { c.TLS = gateways.TLSFiles{} },
		"no client CA": func(c *Config) { c.TLS.ClientCA = "missing.crt" },
		"no PEM":       func(c *Config) { c.TLS.ClientCA = c.TLS.Key },
	} {
		cfg := newWorld().config()
		cfg.TLS, _ = newAuthority(t).write(t, t.TempDir(), "server")
		cfg.ListenTLS = "127.0.0.1:0"
		change(&cfg)
		if s, err := Open(cfg); err == nil {
			_ = s.Close(t.Context())
			t.Errorf("%s: no error", name)
		}
	}
}
