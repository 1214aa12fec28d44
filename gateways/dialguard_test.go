package gateways

import (
	"net/netip"
	"testing"
)

func TestDialGuard(t *testing.T) {
	t.Parallel()
	private := []string{"127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1", "::ffff:10.0.0.1"}
	always := []string{
		"169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "100.100.100.200", "fd00:ec2::254", "0.0.0.0", "::", "0.1.2.3",
		"224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1", "198.18.0.1", "192.0.2.1", "203.0.113.1", "2001:db8::1", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "192.0.0.192",
	}
	public := []string{"8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"}
	for _, c := range []struct {
		name      string
		guard     *DialGuard
		addresses []string
		ok        bool
	}{
		{"public", NewDialGuard(true, nil), public, true},
		{"public, private allowed", NewDialGuard(false, nil), public, true},
		{"private allowed", NewDialGuard(false, nil), private, true},
		{"private denied", NewDialGuard(true, nil), private, false},
		{"always denied", NewDialGuard(false, nil), always, false},
		{"always denied 2", NewDialGuard(true, nil), always, false},
		{"allow list", NewDialGuard(true, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("169.254.169.254/32")}), []string{"10.1.2.3", "169.254.169.254"}, true},
		{"beside the allow list", NewDialGuard(true, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}), []string{"10.2.0.1"}, false},
	} {
		for _, ip := range c.addresses {
			address := netip.AddrPortFrom(netip.MustParseAddr(ip), 8080).String()
			if err := c.guard.Control("tcp", address, nil); (err == nil) != c.ok {
				t.Errorf("%s: %s: %v", c.name, ip, err)
			}
		}
	}
	if NewDialGuard(false, nil).Control("tcp", "localhost", nil) == nil {
		t.Error("an address without port was accepted")
	}
}
