package rest

import (
	v3 "lorikeet/messages/v3"
)

// fleetOperations describes import and export.
func fleetOperations() map[string]operation {
	const lines = "application/x-ndjson"
	return map[string]operation{
		"POST /applications/:application_id/devices/import": {summary: "Creates or updates devices from a file, which is the body; a line for each.", answer: one[importResult](), media: lines,
			query: []string{"format#import", "on_conflict", "dry_run", "frequency_plan_id", "lorawan_version", "lorawan_phy_version"}},
		"GET /applications/:application_id/devices/export": {summary: "Gives all devices complete, sealed under the passphrase in the header X-Lorikeet-Passphrase; a line for each.",
			answer: extended[v3.EndDevice](tree{"mac_state": tree{"type": "object"}, "pending_mac_state": tree{"type": "object"}}), media: lines, query: []string{"plain"}},
		"GET /edtc/formats":  {summary: "Lists the formats of device files.", answer: one[templateFormatsBody]()},
		"POST /edtc/convert": {summary: "Gives templates of the devices in a file, a line for each.", request: one[convertBody](), answer: one[templateLine](), media: lines},
	}
}
