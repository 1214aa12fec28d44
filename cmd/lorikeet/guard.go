package main

import (
	"fmt"
	"net/netip"

	"lorikeet/gateways"
)

// guard says which addresses webhooks and pub/sub integrations may connect to.
func (c WebhookConfig) guard() (*gateways.DialGuard, error) {
	var allow []netip.Prefix
	for _, text := range split(c.AllowedNetworks) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return nil, fmt.Errorf("webhooks.allowed_networks %q: use an address such as 10.1.2.3 or a network such as 10.1.0.0/16", text)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		allow = append(allow, prefix)
	}
	return gateways.NewDialGuard(!c.AllowPrivateNetworks, allow), nil
}
