package gateways

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// DialGuard decides which addresses an integration may dial. It looks at the address of each connection, so that names, redirects, what a server says of
// its cluster, and odd spellings can't pass by it.
type DialGuard struct {
	allow []netip.Prefix
	rules *ssrf.Guardian
}

// never are addresses inside private networks that no integration has business with.
var never = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local: metadata of most clouds
	netip.MustParsePrefix("100.100.100.200/32"), // metadata of Alibaba Cloud
	netip.MustParsePrefix("fd00:ec2::/32"),      // metadata of AWS over IPv6
	netip.MustParsePrefix("fe80::/10"),
}

var (
	privateV4 = []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
	}
	privateV6 = []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7")}
)

// NewDialGuard makes a guard that refuses link-local addresses, the metadata services of clouds, multicast and reserved addresses, and with denyPrivate
// loopback and private networks too. What allow holds is reachable in any case.
func NewDialGuard(denyPrivate bool, allow []netip.Prefix) *DialGuard {
	options := []ssrf.Option{ssrf.WithAnyPort()}
	if !denyPrivate {
		options = append(options, ssrf.WithAllowedV4Prefixes(privateV4...), ssrf.WithAllowedV6Prefixes(privateV6...))
	}
	return &DialGuard{allow: allow, rules: ssrf.New(options...)}
}

// Control is net.Dialer.Control. The error is shown to the owner of the integration.
func (g *DialGuard) Control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q is not valid", address)
	}
	ip := at.Addr().Unmap().WithZone("")
	if contains(g.allow, ip) {
		return nil
	}
	if contains(never, ip) {
		return fmt.Errorf("address %s is not allowed for integrations", ip)
	}
	if err := g.rules.SafeAddr(ip); err != nil {
		return fmt.Errorf("address %s is not allowed for integrations: ask the operator to allow it", ip)
	}
	return nil
}

// Dialer makes connections that the guard allows. A nil guard allows all.
func (g *DialGuard) Dialer(timeout time.Duration) *net.Dialer {
	d := &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	if g != nil {
		d.Control = g.Control
	}
	return d
}

func contains(prefixes []netip.Prefix, ip netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
