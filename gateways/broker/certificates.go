package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLSFiles names PEM files. They are read again when they change, so that a renewed certificate needs no restart.
type TLSFiles struct {
	Cert, Key string // certificate chain of the server and its key
	ClientCA  string // certificates that sign those of the clients; empty: clients need none
}

// checkFilesEvery is how often the files are looked at, if there are handshakes at all.
const checkFilesEvery = time.Second

// certificates keeps a TLS configuration up to date with its files.
type certificates struct {
	files TLSFiles
	log   *slog.Logger

	mu      sync.Mutex
	current *tls.Config
	seen    [3]fileState
	looked  time.Time
}

type fileState struct {
	modified time.Time
	size     int64
}

// openCertificates reads the files; the error says which one is wrong.
func openCertificates(files TLSFiles, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, log: log, looked: time.Now()}
	c.seen = files.states()
	var err error
	c.current, err = files.read()
	return c, err
}

// config is for a listener: each handshake takes what is current then.
func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.latest(), nil }}
}

func (c *certificates) latest() *tls.Config {
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
	fresh, err := c.files.read()
	if err != nil { // half written, say; the next handshake looks again
		c.log.Warn("the MQTT certificate has changed and can't be read; the former one stays in use", "err", err)
		return c.current
	}
	c.current, c.seen = fresh, states
	c.log.Info("the MQTT certificate was read anew")
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

func (f TLSFiles) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("MQTT certificate: %w", err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if f.ClientCA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("MQTT client CA: %w", err)
	}
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("MQTT client CA: " + f.ClientCA + " holds no certificate in PEM form")
	}
	return cfg, nil
}
