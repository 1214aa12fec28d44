package rest

import (
	v3 "lorikeet/messages/v3"
)

// storedLine is a line of a history.
type storedLine struct {
	Result v3.ApplicationUp `json:"result"`
}

// fleetOperations describes history, import and export.
func fleetOperations() map[string]operation {
	const lines = "application/x-ndjson"
	times := []string{"after", "before", "last", "f_port"}
	all := map[string]operation{
		"POST /applications/:application_id/devices/import": {summary: "Creates or updates devices from a file, which is the body; a line for each.", answer: one[importResult](), media: lines,
			query: []string{"format#import", "on_conflict", "dry_run", "frequency_plan_id", "lorawan_version", "lorawan_phy_version"}},
		"GET /applications/:application_id/devices/export": {summary: "Gives all devices complete, sealed under the passphrase in the header X-Lorikeet-Passphrase; a line for each.",
			answer: extended[v3.EndDevice](tree{"mac_state": tree{"type": "object"}, "pending_mac_state": tree{"type": "object"}}), media: lines, query: []string{"plain"}},
		"GET /edtc/formats":  {summary: "Lists the formats of device files.", answer: one[templateFormatsBody]()},
		"POST /edtc/convert": {summary: "Gives templates of the devices in a file, a line for each.", request: one[convertBody](), answer: one[templateLine](), media: lines},
	}
	for _, scope := range []string{"GET /as/applications/:application_id", "GET /as/applications/:application_id/devices/:device_id"} {
		read := operation{summary: "Reads events that the log keeps; a line for each, or CSV.", answer: one[storedLine](), media: lines,
			query: append([]string{"field_mask", "limit#history", "order#history", "continuation_token", "format#history"}, times...)}
		count := operation{summary: "Counts events that the log keeps, by device.", answer: one[historyCount](), query: times}
		for _, path := range []string{"/packages/storage", "/packages/storage/", "/packages/storage/:type"} {
			all[scope+path] = read
		}
		for _, path := range []string{"/packages/storage/count", "/packages/storage/:type/count"} {
			all[scope+path] = count
		}
	}
	return all
}
