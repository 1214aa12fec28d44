package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// issue writes a certificate and its key; without a parent it signs itself.
func issue(t *testing.T, dir, name string, parent *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: parent == nil, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	signer, signerKey := c, any(key)
	if parent != nil {
		signer, signerKey = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, signer, &key.PublicKey, signerKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

func TestNodesTalkOverMutualTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := issue(t, dir, "ca", nil)
	issue(t, dir, "node", ca)
	stranger := issue(t, dir, "stranger", nil)
	files := &TLS{CertFile: filepath.Join(dir, "node.crt"), KeyFile: filepath.Join(dir, "node.key"), CAFile: filepath.Join(dir, "ca.crt")}
	s := natsServer(t, t.TempDir(), 0)
	var nodes []*proc
	for _, name := range []string{"a", "b"} {
		nodes = append(nodes, spawn(t, childSpec{Name: name, NATS: s.ClientURL(), Lease: 2 * time.Second, Limit: time.Minute, TLS: files}))
	}
	address := nodes[0].event("started").Value
	nodes[1].event("started")
	eventually(t, "both are alive", func() bool { return nodes[0].names() == "a alive, b alive" })
	if got := nodes[0].do(request{Op: "ask", Device: deviceOf(nodes[0], "b")}).Value; got != "b" {
		t.Errorf("got %q", got)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	for name, certificates := range map[string][]tls.Certificate{"none": nil, "of another authority": {*stranger}} {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, Certificates: certificates, NextProtos: []string{"h2"}})
		if err == nil { // in TLS 1.3 the refusal comes with the first read
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("certificate %s: got %v", name, err)
		}
	}
}
