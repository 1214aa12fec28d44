package broker

import (
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// loginFailures may come from one address in a burst, and then failuresPerSecond.
	loginFailures     = 50
	failuresPerSecond = 5
	// trusted logins of one address are remembered, and addresses at all; the oldest go.
	maxTrusted   = 1024
	maxAddresses = 4096
)

// attempts limits how often logins may fail from one address. While there were too many, logins from there are refused unheard, except those that have
// succeeded before with the same credentials: who shares the address with a stranger, or with a device that has an old key, stays connected.
type attempts struct {
	now func() time.Time

	mu    sync.Mutex
	hosts map[string]*visitor
}

type visitor struct {
	failures *rate.Limiter
	trusted  map[[sha256.Size]byte]struct{}
	seen     time.Time
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, hosts: map[string]*visitor{}}
}

func (c credentials) digest() [sha256.Size]byte {
	return sha256.Sum256([]byte(c.username + "\x00" + c.apiKey))
}

// allowed says whether a login is heard.
func (a *attempts) allowed(host string, c credentials) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.hosts[host]
	if v == nil {
		return true
	}
	_, trusted := v.trusted[c.digest()]
	return trusted || v.failures.TokensAt(a.now()) >= 1
}

// failed and succeeded note what came of a login.
func (a *attempts) failed(host string, c credentials) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.visitor(host)
	delete(v.trusted, c.digest())
	v.failures.AllowN(a.now(), 1)
}

func (a *attempts) succeeded(host string, c credentials) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.visitor(host)
	if len(v.trusted) >= maxTrusted {
		clear(v.trusted)
	}
	v.trusted[c.digest()] = struct{}{}
}

// visitor gives the entry of an address. a.mu is held.
func (a *attempts) visitor(host string) *visitor {
	v := a.hosts[host]
	if v == nil {
		if len(a.hosts) >= maxAddresses {
			a.forgetOldest()
		}
		v = &visitor{failures: rate.NewLimiter(failuresPerSecond, loginFailures), trusted: map[[sha256.Size]byte]struct{}{}}
		a.hosts[host] = v
	}
	v.seen = a.now()
	return v
}

func (a *attempts) forgetOldest() {
	oldest := ""
	for host, v := range a.hosts {
		if oldest == "" || v.seen.Before(a.hosts[oldest].seen) {
			oldest = host
		}
	}
	delete(a.hosts, oldest)
}
