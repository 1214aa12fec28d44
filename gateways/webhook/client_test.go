package webhook

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// authority signs certificates of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key, a.pem = a.make("Test CA", nil)
	return a
}

func (a *authority) make(name string, parent *authority) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issue gives certificate and key in PEM.
func (a *authority) issue(name string) (cert, key []byte) {
	a.t.Helper()
	_, private, cert := a.make(name, a)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestWebhookShowsItsClientCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	serverCert, serverKey := ca.issue("server")
	pair, err := tls.X509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	seen := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.TLS.PeerCertificates[0].Subject.CommonName
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused clients are the point
	server.StartTLS()
	defer server.Close()
	clientCert, clientKey := ca.issue("lorikeet")
	s := newTestSender(t, Config{})
	w := newTestWebhook(t, s, func(h *v3.Webhook) {
		h.BaseURL, h.TLSCA, h.TLSClientCert, h.TLSClientKey = server.URL, ca.pem, clientCert, clientKey
	})
	defer w.Close()
	if err := w.Deliver(t.Context(), uplink); err != nil {
		t.Fatal(err)
	}
	if name := <-seen; name != "lorikeet" {
		t.Errorf("certificate of %q", name)
	}
	for name, change := range map[string]func(*v3.Webhook){
		"no certificate":            func(h *v3.Webhook) { h.TLSClientCert, h.TLSClientKey = nil, nil },
		"the CAs of the system":     func(h *v3.Webhook) { h.TLSCA = nil },
		"the CA of someone else":    func(h *v3.Webhook) { h.TLSCA = newAuthority(t).pem },
		"a certificate of the same": func(h *v3.Webhook) { h.TLSClientCert, h.TLSClientKey = newAuthority(t).issue("mallory") },
	} {
		w := newTestWebhook(t, s, func(h *v3.Webhook) {
			h.BaseURL, h.TLSCA, h.TLSClientCert, h.TLSClientKey = server.URL, ca.pem, clientCert, clientKey
			change(h)
		})
		if err := w.Deliver(t.Context(), uplink); err == nil || strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDamagedCertificatesAreRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("a")
	_, other := ca.issue("b")
	for name, h := range map[string]v3.Webhook{
		"CA without certificate": {TLSCA: v3.Bytes("x")},
		"certificate alone":      {TLSClientCert: cert},
		"key alone":              {TLSClientKey: key},
		"no pair":                {TLSClientCert: cert, TLSClientKey: other},
		"not PEM":                {TLSClientCert: v3.Bytes("hunter2"), TLSClientKey: v3.Bytes("hunter2")},
		"too large":              {TLSCA: make(v3.Bytes, maxPEM+1)},
	} {
		h.BaseURL = "https://example.com"
		if err := newTestSender(t, Config{}).Check(h); messages.CodeOf(err) != messages.CodeInvalid || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGuardHoldsForAWebhookWithCertificates(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request arrived") }))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	w := newTestWebhook(t, newTestSender(t, Config{Guard: gateways.NewDialGuard(true, nil)}), func(h *v3.Webhook) { h.BaseURL, h.TLSCA = server.URL, ca })
	if err := w.Deliver(t.Context(), uplink); err == nil || !strings.Contains(err.Error(), "not allowed for integrations") {
		t.Errorf("error %v", err)
	}
}
