// Package gatewaystest helps to test doors to other systems: certificates, and connections that break.
package gatewaystest

import (
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
	"sync"
	"testing"
	"time"
)

// PKI is a certificate authority with a server and a client.
type PKI struct {
	CA                    []byte      // PEM
	ClientCert, ClientKey []byte      // PEM
	ServerCert, ServerKey []byte      // PEM, of 127.0.0.1
	Server                *tls.Config // of 127.0.0.1; demands a client certificate of CA
}

// NewPKI makes new keys.
func NewPKI(t testing.TB) PKI {
	t.Helper()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootKey := newKey(t)
	rootDER := sign(t, root, root, rootKey, rootKey)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	client := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "client"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	serverKey, clientKey := newKey(t), newKey(t)
	serverCertPEM, serverKeyPEM := certPEM(sign(t, server, root, serverKey, rootKey)), keyPEM(t, serverKey)
	serverPair, err := tls.X509KeyPair(serverCertPEM, serverKeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM(rootDER))
	return PKI{
		CA: certPEM(rootDER), ClientCert: certPEM(sign(t, client, root, clientKey, rootKey)), ClientKey: keyPEM(t, clientKey),
		ServerCert: serverCertPEM, ServerKey: serverKeyPEM,
		Server: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{serverPair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, cert, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// BreakingProxy forwards connections to target and breaks each of them once the client has sent limit bytes. It gives its own address and ends
// with the test.
func BreakingProxy(t testing.TB, target string, limit int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	keep := func(c net.Conn, is bool) {
		mu.Lock()
		defer mu.Unlock()
		if open[c] = is; !is {
			_ = c.Close()
			delete(open, c)
		}
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			keep(client, true)
			keep(server, true)
			all.Go(func() { // the bytes beyond limit are lost
				_, _ = io.CopyN(server, client, limit)
				keep(client, false)
				keep(server, false)
			})
			all.Go(func() { _, _ = io.Copy(client, server); keep(client, false); keep(server, false) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}
