package gateways

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLSFiles names the PEM files of a door with TLS. They are read again when they change, so that a renewed certificate needs no restart.
type TLSFiles struct {
	Cert, Key string // certificate chain of the server and its key
	ClientCA  string // certificates that sign those of the clients; empty: clients need none
}

// checkFilesEvery is how often the files are looked at, if there are handshakes at all.
const checkFilesEvery = time.Second

// Certificates keeps the TLS configuration of a door up to date with its files.
type Certificates struct {
	door      string // "MQTT", for errors and the log
	protocols []string
	files     TLSFiles
	log       *slog.Logger

	mu      sync.Mutex
	current *tls.Config
	seen    [3]fileState
	looked  time.Time
}

type fileState struct {
	modified time.Time
	size     int64
}

// OpenCertificates reads the files; the error says which one is wrong. door is named in errors and in the log. protocols are offered to clients
// (ALPN), the preferred one first; there need not be any.
func OpenCertificates(door string, files TLSFiles, log *slog.Logger, protocols ...string) (*Certificates, error) {
	c := &Certificates{door: door, protocols: protocols, files: files, log: log, looked: time.Now()}
	c.seen = files.states()
	var err error
	c.current, err = c.read()
	return c, err
}

// Config is for a listener: each handshake takes what is current then.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: c.protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.latest(), nil },
	}
}

func (c *Certificates) latest() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < checkFilesEvery {
		return c.current
	}
	c.looked = time.Now()
	states := c.files.states()
	if states == c.seen {
		return c.current
	}
	fresh, err := c.read()
	if err != nil { // half written, say; the next handshake looks again
		c.log.Warn("a certificate has changed and can't be read; the former one stays in use", "door", c.door, "err", err)
		return c.current
	}
	c.current, c.seen = fresh, states
	c.log.Info("a certificate was read anew", "door", c.door)
	return c.current
}

func (f TLSFiles) states() (out [3]fileState) {
	for i, name := range []string{f.Cert, f.Key, f.ClientCA} {
		if info, err := os.Stat(name); err == nil {
			out[i] = fileState{modified: info.ModTime(), size: info.Size()}
		}
	}
	return out
}

func (c *Certificates) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return nil, fmt.Errorf("%s certificate: %w", c.door, err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: c.protocols, Certificates: []tls.Certificate{pair}}
	if c.files.ClientCA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(c.files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("%s client CA: %w", c.door, err)
	}
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s client CA: %s holds no certificate in PEM form", c.door, c.files.ClientCA)
	}
	return cfg, nil
}
