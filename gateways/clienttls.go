package gateways

import (
	"crypto/tls"
	"crypto/x509"

	"lorikeet/messages"
)

// ClientTLS makes the TLS configuration of a connection to another system. ca, cert and key are PEM; without ca the roots of the system are
// trusted, without cert and key no client certificate is shown. provider is the member of the configuration, for errors.
func ClientTLS(provider string, ca, cert, key []byte) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, messages.Invalid("pubsub_tls", "%s.tls_ca holds no certificate: give PEM, base64 encoded", provider)
		}
	}
	if len(cert) > 0 || len(key) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil { // not told: the text of the error may quote the key
			return nil, messages.Invalid("pubsub_tls", "%s.tls_client_cert and %s.tls_client_key are not a pair: give both as PEM, base64 encoded", provider, provider)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
