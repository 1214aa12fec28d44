package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"lorikeet/messages"
)

func (t *TLS) certificate() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate of this node: %w", err)
	}
	return &c, nil
}

func (t *TLS) pool() (*x509.CertPool, error) {
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("certificate authority of the nodes: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, messages.Invalid("cluster_ca", "%s holds no certificate in PEM form", t.CAFile)
	}
	return pool, nil
}
