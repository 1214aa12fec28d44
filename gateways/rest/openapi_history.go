package rest

import v3 "lorikeet/messages/v3"

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
