package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"lorikeet/gateways"
	"lorikeet/gateways/broker"
	"lorikeet/messages"
)

// MQTTConfig is for the embedded MQTT broker.
type MQTTConfig struct {
	Listen           string `yaml:"listen" doc:"address of the MQTT broker; empty: none without TLS"`
	ListenTLS        string `yaml:"tls_listen" doc:"address for MQTT over TLS, in use with tls_cert"`
	WebSocket        string `yaml:"websocket" doc:"address for MQTT over WebSocket, on the path /mqtt, e.g. :8083; empty: none"`
	WebSocketTLS     string `yaml:"websocket_tls" doc:"address for the same over TLS (wss), e.g. :8084; empty: none"`
	WebSocketOrigins string `yaml:"websocket_origins" doc:"hosts whose web pages may connect by WebSocket beside the host itself, with commas between, e.g. *.example.com; * is every page"`
	TLSCert          string `yaml:"tls_cert" doc:"certificate chain (PEM); read again when the file changes"`
	TLSKey           string `yaml:"tls_key" doc:"its key (PEM)"`
	TLSClientCA      string `yaml:"tls_client_ca" doc:"certificates that sign those of the clients (PEM); empty: clients need none"`
	PublicAddress    string `yaml:"public_address" doc:"host:port told to MQTT clients; empty: localhost and the port"`
	PublicTLSAddress string `yaml:"public_tls_address" doc:"the same for TLS"`
	MaxConnections   int    `yaml:"max_connections" doc:"clients at one time"`

	MaxSessionExpiry time.Duration `yaml:"max_session_expiry" doc:"how long a session with clean session 0 (3.1.1) or a session expiry interval (5) waits for its client at most"`
}

// defaultMQTT is what a broker has without any configuration.
func defaultMQTT() MQTTConfig {
	return MQTTConfig{Listen: ":1883", ListenTLS: ":8883", MaxConnections: 10000, MaxSessionExpiry: 30 * 24 * time.Hour}
}

// enabled says whether there is any door to a broker.
func (c *MQTTConfig) enabled() bool {
	return c.Listen != "" || c.tlsListen() != "" || c.WebSocket != "" || c.WebSocketTLS != ""
}

func (c *MQTTConfig) tlsListen() string {
	if c.TLSCert == "" {
		return ""
	}
	return c.ListenTLS
}

func (c *MQTTConfig) validate() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, a := range []struct{ name, addr string }{
		{"listen", c.Listen}, {"tls_listen", c.ListenTLS}, {"websocket", c.WebSocket}, {"websocket_tls", c.WebSocketTLS},
		{"public_address", c.PublicAddress}, {"public_tls_address", c.PublicTLSAddress},
	} {
		if a.addr != "" && !goodAddress(a.addr) {
			bad("mqtt.%s %q: use host:port or :port", a.name, a.addr)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("mqtt.tls_cert, tls_key: give both, or none")
	}
	if c.TLSCert == "" && (c.WebSocketTLS != "" || c.TLSClientCA != "") {
		bad("mqtt.tls_cert: websocket_tls and tls_client_ca need a certificate and its key")
	}
	if c.WebSocketOrigins != "" && c.WebSocket == "" && c.WebSocketTLS == "" {
		bad("mqtt.websocket_origins: give an address for WebSockets too: websocket or websocket_tls")
	}
	if c.MaxConnections < 1 {
		bad("mqtt.max_connections %d: use 1 or more", c.MaxConnections)
	}
	if c.MaxSessionExpiry < time.Minute || c.MaxSessionExpiry > 100*365*24*time.Hour {
		bad("mqtt.max_session_expiry %s: use 1m or more, at most 100 years", c.MaxSessionExpiry)
	}
	return errs
}

func (s *server) brokerConfig() broker.Config {
	c, node := s.cfg.MQTT, ""
	if s.clustered != nil {
		node = s.clustered.name
	}
	return broker.Config{
		Listen: c.Listen, ListenTLS: c.tlsListen(), ListenWebSocket: c.WebSocket, ListenWebSocketTLS: c.WebSocketTLS, WebSocketOrigins: split(c.WebSocketOrigins),
		TLS: gateways.TLSFiles{Cert: c.TLSCert, Key: c.TLSKey, ClientCA: c.TLSClientCA}, MaxConnections: c.MaxConnections,
		Authorize: s.registry.Authorize, KeyRights: s.keyRights, ApplicationExists: s.registry.ApplicationExists, LoginRefused: s.loginRefused, Downlinks: s.devices,
		Store: s.store, Node: node, MaxSessionExpiry: c.MaxSessionExpiry,
		Log: s.log.With("component", "broker"), Registerer: s.metrics,
	}
}

// failedLogin is that of an MQTT client.
type failedLogin struct {
	application string
	reason      error
}

func (s *server) loginRefused(application string, reason error) {
	s.logins.tell(failedLogin{application, reason})
}

func (s *server) watchLogins(fn func(application string, reason error)) (cancel func()) {
	return s.logins.watch(func(l failedLogin) { fn(l.application, l.reason) })
}

// keyRights says what an API key, of the application or of an admin, may do now.
func (s *server) keyRights(ctx context.Context, application, keyID string) (messages.Access, error) {
	k, err := s.registry.APIKey(ctx, application, keyID)
	access := messages.Access{KeyID: keyID, ApplicationID: application, Rights: k.Rights}
	if messages.CodeOf(err) == messages.CodeNotFound {
		k, err = s.registry.APIKey(ctx, "", keyID)
		access = messages.Access{KeyID: keyID, Admin: true}
	}
	if err == nil && k.ExpiresAt != nil && !time.Now().Before(*k.ExpiresAt) {
		err = messages.ErrNotFound
	}
	return access, err
}

// publicMQTT is the address that mqtt-connection-info tells, and that for TLS.
func (s *server) publicMQTT() (plain, tls string) {
	if s.broker == nil {
		return "", ""
	}
	return publicAddress(s.cfg.MQTT.PublicAddress, s.broker.Addr()), publicAddress(s.cfg.MQTT.PublicTLSAddress, s.broker.TLSAddr())
}

// publicAddress is what was configured, or localhost with the port of a listener, or "" without one.
func publicAddress(configured, listener string) string {
	_, port, err := net.SplitHostPort(listener)
	switch {
	case strings.TrimSpace(configured) != "":
		return configured
	case err != nil:
		return ""
	}
	return net.JoinHostPort("localhost", port)
}
