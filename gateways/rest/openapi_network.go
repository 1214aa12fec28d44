package rest

import (
	v3 "lorikeet/messages/v3"
)

// gatewayOperations describes radio gateways.
func gatewayOperations() map[string]operation {
	return map[string]operation{
		"GET /gateways":                                 {summary: "Lists radio gateways.", answer: list[v3.Gateway]("gateways"), query: paged},
		"GET /users/:user_id/gateways":                  {summary: "Lists radio gateways.", answer: list[v3.Gateway]("gateways"), query: paged},
		"GET /organizations/:organization_id/gateways":  {summary: "Lists radio gateways.", answer: list[v3.Gateway]("gateways"), query: paged},
		"GET /gateways/:gateway_id/rights":              {summary: "Lists the rights that the key has on the radio gateway.", answer: one[rightsBody]()},
		"POST /users/:user_id/gateways":                 {summary: "Registers a radio gateway.", request: write[v3.Gateway]("gateway"), answer: one[v3.Gateway]()},
		"POST /organizations/:organization_id/gateways": {summary: "Registers a radio gateway.", request: write[v3.Gateway]("gateway"), answer: one[v3.Gateway]()},
		"GET /gateways/:gateway_id":                     {summary: "Shows a radio gateway.", answer: one[v3.Gateway](), query: oneMask},
		"PUT /gateways/:gateway_id":                     {summary: "Changes a radio gateway.", request: write[v3.Gateway]("gateway"), answer: one[v3.Gateway]()},
		"DELETE /gateways/:gateway_id":                  {summary: "Deletes a radio gateway."},
		"GET /gs/gateways/:gateway_id/connection/stats": {summary: "Shows the connection of a radio gateway.", answer: one[v3.GatewayConnectionStats]()},
	}
}

// networkOperations describes what the network is.
func networkOperations() map[string]operation {
	return map[string]operation{
		"GET /ns/dev_addr":          {summary: "Gives a random address of the network, for an ABP device.", answer: one[devAddrBody]()},
		"GET /ns/net_id":            {summary: "Shows the NetID.", answer: one[netIDBody]()},
		"GET /ns/dev_addr_prefixes": {summary: "Lists the blocks of addresses of the network.", answer: one[devAddrPrefixesBody]()},
		"GET /ns/default_mac_settings/:frequency_plan_id/:lorawan_phy_version": {summary: "Shows the MAC settings that a device of a frequency plan has if nothing else is set.", answer: one[macSettingsBody]()},
		"GET /js/join_eui_prefixes":                      {summary: "Lists the JoinEUIs that are served: all.", answer: one[joinEUIPrefixesBody]()},
		"GET /js/default_join_eui":                       {summary: "Gives the JoinEUI for devices without one.", answer: one[joinEUIBody]()},
		"GET /as/configuration":                          {summary: "Says which integrations there are.", answer: one[asConfigurationBody]()},
		"GET /configuration/frequency-plans":             {summary: "Lists the frequency plans.", answer: one[frequencyPlansBody](), query: []string{"base_frequency", "band_id"}},
		"GET /configuration/phy-versions":                {summary: "Lists the versions of the regional parameters.", answer: one[phyVersionsBody](), query: []string{"band_id"}},
		"GET /configuration/bands":                       {summary: "Describes the bands.", answer: one[bandsBody]()},
		"GET /configuration/bands/:band_id":              {summary: "Describes a band.", answer: one[bandsBody]()},
		"GET /configuration/bands/:band_id/:phy_version": {summary: "Describes a band in one version.", answer: one[bandsBody]()},
	}
}
