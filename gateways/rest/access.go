package rest

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"lorikeet/messages"
)

// access says whether a call may be made. A nil access is no rule at all and refused when the server is made.
type access func(*call) error

// public needs no key.
func public(*call) error { return nil }

// anyKey needs a valid key; the handler shows what that key may see.
func anyKey(c *call) error { return c.authenticate() }

// admin needs an admin key. resource names what is asked for in the error's name, as The Things Stack does.
func admin(resource string) access {
	return func(c *call) error {
		if err := c.authenticate(); err != nil || c.access.Admin {
			return err
		}
		return messages.Errorf(messages.CodeForbidden, "insufficient_"+resource+"_rights", "the API key has rights on one application only: use an admin key")
	}
}

// application needs rights on the application that the path names. For one outside the scope of the key the answer is the same whether or not it exists,
// and that of The Things Stack.
func application(rights ...messages.Right) access {
	return func(c *call) error {
		if err := c.authenticate(); err != nil {
			return err
		}
		if !c.access.Admin && c.access.ApplicationID != c.app() {
			return noApplicationRights(c.app())
		}
		return c.needs(rights...)
	}
}

func noApplicationRights(app string) error {
	return messages.Errorf(messages.CodeForbidden, "no_application_rights", "the API key has no rights on application %q: use a key of that application", shorten(app))
}

// needs refuses a key that lacks one of rights on the application of the path, and names it.
func (c *call) needs(rights ...messages.Right) error {
	for _, right := range rights {
		if !c.access.Can(c.app(), right) {
			return insufficient(c.app(), right)
		}
	}
	return nil
}

func insufficient(app string, right messages.Right) error {
	return messages.Errorf(messages.CodeForbidden, "insufficient_application_rights",
		"the API key lacks %s on application %q: use a key that has it", right, shorten(app))
}

// authenticate reads the bearer token. Attempts that fail are limited for each address, so that a weak key can't be guessed.
func (c *call) authenticate() error {
	key, err := c.key()
	from := c.RealIP()
	if err == nil {
		if !c.server.attempts.allow(from, key) {
			return c.tooMany()
		}
		c.access, err = c.server.cfg.Registry.Authorize(c.ctx(), key)
	}
	switch {
	case err == nil:
		c.server.attempts.succeeded(key)
		return nil
	case messages.CodeOf(err) != messages.CodeUnauthenticated:
		return err
	case !c.server.attempts.failed(from):
		return c.tooMany()
	}
	c.Response().Header().Set("WWW-Authenticate", `Bearer realm="lorikeet"`)
	return err
}

func (c *call) tooMany() error {
	c.server.metrics.limited.Inc()
	c.Response().Header().Set("Retry-After", strconv.Itoa(int(attemptsPause/time.Second)))
	return messages.Errorf(messages.CodeExhausted, "too_many_attempts", "too many requests without a valid API key from this address: check the key and try again later")
}

// key is the API key that the call came with, in the header of HTTP or in that which a grpc-gateway takes as well.
func (c *call) key() (string, error) {
	header := c.Request().Header
	return bearer(cmp.Or(header.Get("Authorization"), header.Get("Grpc-Metadata-Authorization")))
}

func bearer(header string) (string, error) {
	scheme, key, _ := strings.Cut(strings.TrimSpace(header), " ")
	key = strings.TrimSpace(key)
	if !strings.EqualFold(scheme, "Bearer") || key == "" {
		return "", messages.Errorf(messages.CodeUnauthenticated, "unauthenticated", "no API key: send the header Authorization: Bearer NNSXS.….…")
	}
	return key, nil
}

// unguessable is the length from which a key can't be found by trying. Those that the server makes have more than 90 characters; only a preset key can
// be shorter.
const unguessable = 64

const (
	attemptsBurst = 200 // failures of one address at once
	attemptsRate  = 5   // and then each second
	attemptsPause = 2 * time.Second
	maxAddresses  = 10_000
	maxKnownKeys  = 10_000
)

// attempts limits how often an address may fail to authenticate. Keys that can't be guessed and those that were valid before pass in any case: a
// misconfigured or hostile neighbour behind the same address must not lock out a client that works.
type attempts struct {
	now  func() time.Time
	seed maphash.Seed

	mu        sync.Mutex
	addresses map[netip.Addr]*rate.Limiter
	known     map[uint64]struct{}
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, seed: maphash.MakeSeed(), addresses: map[netip.Addr]*rate.Limiter{}, known: map[uint64]struct{}{}}
}

// allow says whether a key may be tried at all.
func (a *attempts) allow(from, key string) bool {
	if len(key) >= unguessable {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.known[maphash.String(a.seed, key)]; known {
		return true
	}
	l := a.addresses[network(from)]
	return l == nil || l.TokensAt(a.now()) >= 1
}

func (a *attempts) succeeded(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnownKeys {
		clear(a.known)
	}
	a.known[maphash.String(a.seed, key)] = struct{}{}
}

// failed counts a failure and says whether the address may go on.
func (a *attempts) failed(from string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	address, now := network(from), a.now()
	l := a.addresses[address]
	if l == nil {
		a.forget(now)
		l = rate.NewLimiter(attemptsRate, attemptsBurst)
		a.addresses[address] = l
	}
	return l.AllowN(now, 1)
}

// forget makes room: first what has recovered, then, under a flood of addresses, everything.
func (a *attempts) forget(now time.Time) {
	if len(a.addresses) < maxAddresses {
		return
	}
	for address, l := range a.addresses {
		if l.TokensAt(now) >= attemptsBurst {
			delete(a.addresses, address)
		}
	}
	if len(a.addresses) >= maxAddresses {
		clear(a.addresses)
	}
}

// network is the address, or the /64 of an IPv6 address, since a host has all of it.
func network(from string) netip.Addr {
	address, err := netip.ParseAddr(from)
	if err != nil {
		return netip.Addr{}
	}
	address = address.Unmap().WithZone("")
	if address.Is6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return address
}
