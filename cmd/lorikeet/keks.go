package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
)

func (k KEKs) parse() (map[string]keywrap.KEK, error) {
	out := make(map[string]keywrap.KEK, len(k))
	for _, label := range slices.Sorted(maps.Keys(k)) {
		if label == "" || len(label) > 2048 {
			return nil, fmt.Errorf("label %.40q: use 1 to 2048 characters", label)
		}
		kek, err := keywrap.Parse(label, string(k[label]))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", label, err)
		}
		out[label] = kek
	}
	return out, nil
}

// networkIDs is what messages say of the network, beside the NetID.
func (c *Config) networkIDs() v3.NetworkIDs {
	n := c.Network
	if n.ClusterAddress == "" && c.HTTP.PublicURL != "" {
		if u, err := url.Parse(c.HTTP.PublicURL); err == nil {
			n.ClusterAddress = u.Hostname()
		}
	}
	return v3.NetworkIDs{NSID: strings.ToUpper(n.NSID), TenantID: n.TenantID, ClusterID: n.ClusterID, ClusterAddress: n.ClusterAddress, TenantAddress: n.TenantAddress}
}
