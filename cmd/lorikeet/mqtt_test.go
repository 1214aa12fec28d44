package main

import (
	"strings"
	"testing"
)

func TestMistakesOfTheBrokerAreNamed(t *testing.T) {
	for want, change := range map[string]func(*MQTTConfig){
		"mqtt.listen":             func(c *MQTTConfig) { c.Listen = "1883" },
		"mqtt.tls_listen":         func(c *MQTTConfig) { c.ListenTLS = "8883" },
		"mqtt.websocket ":         func(c *MQTTConfig) { c.WebSocket = "/mqtt" },
		"tls_cert, tls_key":       func(c *MQTTConfig) { c.TLSCert = "server.crt" },
		"need a certificate":      func(c *MQTTConfig) { c.WebSocketTLS = ":8084" },
		"tls_client_ca need":      func(c *MQTTConfig) { c.TLSClientCA = "ca.crt" },
		"mqtt.websocket_origins":  func(c *MQTTConfig) { c.WebSocketOrigins = "*" },
		"mqtt.max_connections":    func(c *MQTTConfig) { c.MaxConnections = 0 },
		"mqtt.public_tls_address": func(c *MQTTConfig) { c.PublicTLSAddress = "lora.example.com" },
	} {
		c := DefaultConfig()
		change(&c.MQTT)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that names %q", err, want)
		}
	}
}

func TestBrokerListensForTLSOnlyWithACertificate(t *testing.T) {
	c := defaultMQTT()
	if c.tlsListen() != "" || !c.enabled() {
		t.Errorf("without a certificate: %q", c.tlsListen())
	}
	c.Listen = ""
	if c.enabled() {
		t.Error("a broker without any address")
	}
	c.TLSCert = "server.crt"
	if c.tlsListen() != ":8883" || !c.enabled() {
		t.Errorf("with a certificate: %q", c.tlsListen())
	}
}

func TestPublicAddressOfTheBroker(t *testing.T) {
	for _, c := range []struct{ configured, listener, want string }{
		{"", "", ""}, {"", "[::]:1883", "localhost:1883"}, {"lora.example.com:1883", "[::]:1883", "lora.example.com:1883"}, {"proxy:8883", "", "proxy:8883"},
	} {
		if got := publicAddress(c.configured, c.listener); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
