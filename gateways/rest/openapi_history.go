package rest

import (
	"reflect"

	v3 "lorikeet/messages/v3"
)

// historyOperations describes the paths of the storage integration.
func historyOperations() map[string]operation {
	out := map[string]operation{}
	filter := []string{"after", "before", "last", "f_port"}
	read := append([]string{"limit", "order", "field_mask", "format", "continuation_token"}, filter...)
	for _, scope := range []string{"/as/applications/:application_id", "/as/applications/:application_id/devices/:device_id"} {
		storage := "GET " + scope + "/packages/storage"
		for _, path := range []string{"", "/", "/:type"} {
			out[storage+path] = operation{summary: "Reads messages from the log, one JSON object a line.", answer: holding[v3.ApplicationUp]("result"), query: read}
		}
		for _, path := range []string{"/count", "/:type/count"} {
			out[storage+path] = operation{summary: "Counts messages in the log by device.", answer: one[historyCount](), query: filter}
		}
	}
	return out
}

// fleetOperations describes how many devices come and go at once.
func fleetOperations() map[string]operation {
	return map[string]operation{
		"POST /applications/:application_id/devices/import": {summary: "Makes devices from a file of The Things Stack, ChirpStack or an export, sent as the body; answers with one JSON object a row.",
			request: text, answer: one[importResult](), query: []string{"format", "on_conflict", "dry_run", "frequency_plan_id", "lorawan_version", "lorawan_phy_version"}, media: "application/x-ndjson"},
		"GET /applications/:application_id/devices/export": {summary: "Gives all devices with keys, counters, nonces and queue, one JSON object a line, sealed with a passphrase unless plain=true.",
			answer: text, query: []string{"plain"}, media: "application/x-ndjson"},
		"GET /edtc/formats":  {summary: "Lists the file formats that can be converted.", answer: func(s *schemas) any { return object(tree{"formats": s.schema(reflect.TypeOf(templateFormats))}) }},
		"POST /edtc/convert": {summary: "Converts a file to templates of devices, one JSON object a line.", request: one[convertRequest](), answer: holding[template]("result")},
	}
}
