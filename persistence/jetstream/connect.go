package jetstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

// Options say how to reach NATS. Of the ways to log in, give one or none.
type Options struct {
	URLs     []string // nats://host:4222, tls://host, with user:password@ or not; servers of one cluster
	Name     string   // of the connection, as the operator of NATS sees it
	User     string
	Password string
	Token    string

	CredentialsFile string // of a NATS user (JWT and seed)
	NKeySeedFile    string

	CAFile   string // PEM; "": those of the system
	CertFile string // client certificate and key, PEM
	KeyFile  string

	InProcess []nats.Option // of an embedded server (natsserver.Server.ClientOptions); instead of URLs

	// OnState is called when the connection is lost (with an error) and when it is back (nil).
	OnState func(error)
}

// Domain gives JetStream in a domain, and the prefix of the subjects of its API; "" is that of the server.
func Domain(nc *nats.Conn, domain string) (j js.JetStream, prefix string, err error) {
	if domain == "" {
		j, err = js.New(nc)
		return j, "$JS.API.", err
	}
	j, err = js.NewWithDomain(nc, domain)
	return j, "$JS." + domain + ".API.", err
}

const (
	reconnectWait   = 100 * time.Millisecond
	reconnectJitter = 200 * time.Millisecond
	pingInterval    = 2 * time.Second
	pingsOut        = 2
	connectTimeout  = 5 * time.Second
)

// Connect connects once, so that a wrong address or password is an error at the start, and then reconnects for ever.
// While the connection is down nothing is buffered: a commit must not be sent later than its caller thinks. No error holds a secret.
func Connect(o Options) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name(o.Name), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pingsOut), nats.ReconnectBufSize(-1), nats.Timeout(connectTimeout),
		nats.RetryOnFailedConnect(false), nats.IgnoreAuthErrorAbort(),
	}
	if o.OnState != nil {
		opts = append(opts,
			nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
				if err == nil {
					err = errors.New("the connection to NATS was closed")
				}
				o.OnState(err)
			}),
			nats.ReconnectHandler(func(*nats.Conn) { o.OnState(nil) }))
	}
	login, err := o.login()
	if err != nil {
		return nil, err
	}
	opts = append(opts, login...)
	if o.CAFile != "" || o.CertFile != "" || o.KeyFile != "" {
		c, err := o.tlsConfig()
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.Secure(c))
	}
	opts = append(opts, o.InProcess...)
	nc, err := nats.Connect(strings.Join(o.URLs, ","), opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %s. Check the address, the login and that the server is up", o.hosts(), o.scrub(err))
	}
	return nc, nil
}

func (o Options) login() ([]nats.Option, error) {
	switch {
	case o.CredentialsFile != "":
		if _, err := os.Stat(o.CredentialsFile); err != nil {
			return nil, fmt.Errorf("NATS credentials file: %w", err)
		}
		return []nats.Option{nats.UserCredentials(o.CredentialsFile)}, nil
	case o.NKeySeedFile != "":
		opt, err := nats.NkeyOptionFromSeed(o.NKeySeedFile)
		if err != nil {
			return nil, fmt.Errorf("NATS nkey seed file %s can't be read or holds no seed: give the file with the line that starts with SU", o.NKeySeedFile)
		}
		return []nats.Option{opt}, nil
	case o.User != "":
		return []nats.Option{nats.UserInfo(o.User, o.Password)}, nil
	case o.Token != "":
		return []nats.Option{nats.Token(o.Token)}, nil
	}
	return nil, nil
}

func (o Options) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA of NATS: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA of NATS: %s holds no certificate in PEM form", o.CAFile)
		}
	}
	if o.CertFile == "" && o.KeyFile == "" {
		return c, nil
	}
	if o.CertFile == "" || o.KeyFile == "" {
		return nil, errors.New("client certificate for NATS: give both the certificate and the key file")
	}
	cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("client certificate for NATS: %w", err)
	}
	c.Certificates = []tls.Certificate{cert}
	return c, nil
}

// hosts names the servers without what is secret in their URLs.
func (o Options) hosts() string {
	if len(o.InProcess) > 0 {
		return "the embedded server"
	}
	var hosts []string
	for _, text := range o.URLs {
		for one := range strings.SplitSeq(text, ",") {
			u, err := url.Parse(strings.TrimSpace(one))
			if err != nil || u.Host == "" {
				// Maybe without a scheme: what is before the @ is secret.
				hosts = append(hosts, one[strings.LastIndexByte(one, '@')+1:])
				continue
			}
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ", ")
}

// scrub gives the text of an error, without the secrets that may be in it.
func (o Options) scrub(err error) string {
	text := err.Error()
	var e *url.Error
	if errors.As(err, &e) {
		text = "not a URL: " + e.Err.Error()
	}
	secrets := []string{o.Password, o.Token}
	for _, list := range o.URLs {
		for one := range strings.SplitSeq(list, ",") {
			_, rest, ok := strings.Cut(one, "://")
			if !ok {
				rest = one
			}
			if i := strings.LastIndexByte(rest, '@'); i >= 0 {
				user, password, _ := strings.Cut(rest[:i], ":")
				secrets = append(secrets, rest[:i], password)
				if password == "" {
					secrets = append(secrets, user) // a token
				}
			}
		}
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}
