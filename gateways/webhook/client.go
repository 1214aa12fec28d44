package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const maxPEM = 32 << 10 // of each of CA, certificate and key

// noRedirects makes a redirect an answer like any other: where it leads was not configured by anyone.
func noRedirects(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// clientFor gives the shared client, or one of its own to a webhook with certificates of its own. own is nil for the shared one.
func (s *Sender) clientFor(hook v3.Webhook) (client *http.Client, own *http.Transport, err error) {
	if len(hook.TLSCA) == 0 && len(hook.TLSClientCert) == 0 && len(hook.TLSClientKey) == 0 {
		return s.client, nil, nil
	}
	settings, err := tlsSettings(hook)
	if err != nil {
		return nil, nil, err
	}
	own = s.transport.Clone()
	own.TLSClientConfig = settings
	return noRedirects(own), own, nil
}

func tlsSettings(hook v3.Webhook) (*tls.Config, error) {
	for name, pem := range map[string]v3.Bytes{"tls_ca": hook.TLSCA, "tls_client_cert": hook.TLSClientCert, "tls_client_key": hook.TLSClientKey} {
		if len(pem) > maxPEM {
			return nil, messages.Invalid("webhook_tls", "%s has %d bytes: use at most %d", name, len(pem), maxPEM)
		}
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(hook.TLSCA) > 0 {
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(hook.TLSCA) {
			return nil, messages.Invalid("webhook_tls", "tls_ca has no certificate: use the base64 of a PEM file")
		}
	}
	if (len(hook.TLSClientCert) == 0) != (len(hook.TLSClientKey) == 0) {
		return nil, messages.Invalid("webhook_tls", "tls_client_cert and tls_client_key belong together: set both, or none")
	}
	if len(hook.TLSClientCert) > 0 {
		pair, err := tls.X509KeyPair(hook.TLSClientCert, hook.TLSClientKey)
		if err != nil { // it may quote what it read
			return nil, messages.Invalid("webhook_tls", "tls_client_cert and tls_client_key are no pair of certificate and key: use the base64 of PEM files, the key without a password")
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	return settings, nil
}
