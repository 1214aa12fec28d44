package main

import "testing"

func TestNetworksOfIntegrations(t *testing.T) {
	t.Parallel()
	guard, err := WebhookConfig{AllowedNetworks: "10.1.0.0/16, 192.168.1.7,fd12::/16"}.guard()
	if err != nil {
		t.Fatal(err)
	}
	for address, ok := range map[string]bool{
		"10.1.2.3:80": true, "192.168.1.7:1883": true, "[fd12::1]:443": true, "8.8.8.8:443": true,
		"10.2.0.1:80": false, "192.168.1.8:80": false, "127.0.0.1:80": false, "169.254.169.254:80": false,
	} {
		if err := guard.Control("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, text := range []string{"10.1.0.0/33", "intranet", "10.1.0.0/16;10.2.0.0/16"} {
		if _, err := (WebhookConfig{AllowedNetworks: text}).guard(); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
