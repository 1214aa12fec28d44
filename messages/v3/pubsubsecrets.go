package v3

import (
	"maps"
	"net/url"
	"strings"

	"lorikeet/messages"
)

// Redacted stands for a secret in what is shown; in a write it means the secret that is there already. In base64 it is "Kioq".
const Redacted = "***"

// pubSubSecret is one secret of the provider, set or not. Those in server_url are not among them.
type pubSubSecret struct {
	path    string // as in a field mask
	private bool   // a key that signs and never leaves; the others are sent to the server
	get     func() string
	set     func(string)
}

func (p *PubSub) secrets() []pubSubSecret {
	text := func(path string, private bool, s *string) pubSubSecret {
		return pubSubSecret{path, private, func() string { return *s }, func(v string) { *s = v }}
	}
	key := func(path string, b *Bytes) pubSubSecret {
		return pubSubSecret{path, true, func() string { return string(*b) }, func(v string) { *b = Bytes(v) }}
	}
	var out []pubSubSecret
	if n := p.NATS; n != nil {
		out = append(out, text("nats.credentials", true, &n.Credentials), text("nats.nkey_seed", true, &n.NkeySeed), key("nats.tls_client_key", &n.TLSClientKey))
	}
	if m := p.MQTT; m != nil {
		out = append(out, text("mqtt.password", false, &m.Password), key("mqtt.tls_client_key", &m.TLSClientKey))
		for name := range m.Headers {
			out = append(out, pubSubSecret{"mqtt.headers." + name, false, func() string { return m.Headers[name] }, func(v string) { m.Headers[name] = v }})
		}
	}
	return out
}

func (p *PubSub) serverURL() *string {
	switch {
	case p.NATS != nil:
		return &p.NATS.ServerURL
	case p.MQTT != nil:
		return &p.MQTT.ServerURL
	}
	return new(string)
}

// Redacted gives the integration as it may be shown: Redacted in the place of each secret, also of those in server_url.
func (p PubSub) Redacted() PubSub {
	if p.NATS != nil {
		n := *p.NATS
		p.NATS = &n
	}
	if p.MQTT != nil {
		m := *p.MQTT
		m.Headers = maps.Clone(m.Headers)
		p.MQTT = &m
	}
	for _, s := range p.secrets() {
		if s.get() != "" {
			s.set(Redacted)
		}
	}
	text := p.serverURL()
	urls := strings.Split(*text, ",")
	for i, one := range urls {
		urls[i] = redactURL(one, p.NATS != nil)
	}
	*text = strings.Join(urls, ",")
	return p
}

// redactURL hides the password, the query, and what NATS calls a token: a user without a password.
func redactURL(text string, tokens bool) string {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil { // can't be stored
		return Redacted
	}
	query, user := u.RawQuery, u.User
	u.RawQuery, u.User = "", nil
	out := u.String()
	if user != nil {
		shown := url.User(user.Username()).String()
		if _, has := user.Password(); has {
			shown += ":" + Redacted // url.URL would write it as %2A%2A%2A
		} else if tokens {
			shown = Redacted
		}
		out = strings.Replace(out, "://", "://"+shown+"@", 1)
	}
	if query != "" {
		out += "?" + Redacted
	}
	return out
}

// KeepSecrets fills in, from the integration as it was, the secrets that a write leaves as they are: those that are Redacted, and those that are
// missing, unless written says that the write holds a value for the path, or names it without one. What is sent to the server is not kept for another host: who may change the
// integration, and does not know its secrets, must not have them sent to himself.
func (p *PubSub) KeepSecrets(old PubSub, written func(path string) bool) error {
	before := map[string]string{}
	for _, s := range old.secrets() {
		before[s.path] = s.get()
	}
	moved := hosts(*old.serverURL()) != hosts(*p.serverURL())
	for _, s := range p.secrets() {
		value, was := s.get(), before[s.path]
		switch {
		case value != Redacted && (value != "" && value != was || was == "" || written(s.path)): // a new one, or none
		case was == "":
			return messages.Invalid("pubsub_credentials", "%s is %s, which stands for the present one, but there is none: send it", s.path, Redacted)
		case moved && !s.private:
			return messages.Invalid("pubsub_credentials", "server_url names another server: send %s again, or as an empty text", s.path)
		default:
			s.set(was)
		}
	}
	return p.keepURLSecrets(*old.serverURL(), moved)
}

func (p *PubSub) keepURLSecrets(old string, moved bool) error {
	text := p.serverURL()
	urls, before := strings.Split(*text, ","), strings.Split(old, ",")
	for i, one := range urls {
		if !strings.Contains(one, Redacted) {
			continue
		}
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil {
			return nil // refused as no URL
		}
		if moved || i >= len(before) {
			return messages.Invalid("pubsub_credentials", "server_url names another server: send it with its password, not with %s", Redacted)
		}
		if was, err := url.Parse(strings.TrimSpace(before[i])); err == nil {
			restoreURL(u, was)
		}
		urls[i] = u.String()
	}
	*text = strings.Join(urls, ",")
	return nil
}

// restoreURL puts the secrets of was in the place of what is Redacted in u.
func restoreURL(u, was *url.URL) {
	if u.User != nil && was.User != nil {
		password, has := u.User.Password()
		old, had := was.User.Password()
		switch {
		case has && had && password == Redacted:
			u.User = url.UserPassword(u.User.Username(), old)
		case !has && !had && u.User.Username() == Redacted:
			u.User = was.User
		}
	}
	if u.RawQuery == Redacted {
		u.RawQuery = was.RawQuery
	}
}

// hosts are the servers that a URL, or several, lead to.
func hosts(text string) string {
	var out []string
	for one := range strings.SplitSeq(text, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil {
			return text
		}
		out = append(out, strings.ToLower(u.Hostname()))
	}
	return strings.Join(out, ",")
}
