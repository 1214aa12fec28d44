package rest

import (
	"maps"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// letters select dead letters in a query.
var letters = []string{"device_id", "type", "after", "before"}

// deliveryOperations describes what became of the events that integrations deliver, and templates of webhooks.
func deliveryOperations() map[string]operation {
	out := map[string]operation{
		"GET /as/webhook-templates":              {summary: "Lists the templates of webhooks.", answer: list[v3.WebhookTemplate]("templates"), query: paged},
		"GET /as/webhook-templates/:template_id": {summary: "Shows a template of webhooks.", answer: one[v3.WebhookTemplate](), query: oneMask},
	}
	for _, path := range []string{"/as/webhooks/:application_id/:webhook_id", "/as/pubsub/:application_id/:pub_sub_id"} {
		maps.Copy(out, map[string]operation{
			"GET " + path + "/status":                     {summary: "Shows how far an integration is, and what it waits for.", answer: integrationStatus},
			"GET " + path + "/deliveries":                 {summary: "Lists the latest tries to deliver, newest first.", answer: one[messages.AttemptPage](), query: []string{"outcome", "device_id", "event_id", "limit", "page"}},
			"POST " + path + "/replay":                    {summary: "Delivers again from a time or an event on.", request: one[messages.ReplayRequest](), answer: one[messages.ReplayResult]()},
			"GET " + path + "/dead-letters":               {summary: "Lists the events that could not be delivered.", answer: one[messages.DeadLetterPage](), query: append([]string{"limit", "page"}, letters...)},
			"POST " + path + "/dead-letters/redrive":      {summary: "Tries dead letters again.", request: one[redriveRequest](), answer: one[messages.RedriveResult]()},
			"DELETE " + path + "/dead-letters":            {summary: "Deletes dead letters.", answer: one[deletedBody](), query: append([]string{"all"}, letters...)},
			"DELETE " + path + "/dead-letters/:letter_id": {summary: "Deletes a dead letter."},
		})
	}
	return out
}

func integrationStatus(s *schemas) any {
	return object(tree{"status": one[messages.DeliveryStatus]()(s)})
}

// historyOperations describes what is read of the past.
func historyOperations() map[string]operation {
	out := map[string]operation{}
	for _, scope := range []string{"/as/applications/:application_id", "/as/applications/:application_id/devices/:device_id"} {
		read := operation{
			summary: "Reads the events of the past: one JSON object {\"result\":{…}} a line, or CSV.", answer: one[historyLine](), media: "application/x-ndjson",
			query: []string{"limit", "after", "before", "last", "f_port", "order", "field_mask", "format", "continuation_token"},
		}
		count := operation{summary: "Counts the events of the past, for each device.", answer: one[historyCount](), query: []string{"after", "before", "last", "f_port"}}
		storage := "GET " + scope + "/packages/storage"
		maps.Copy(out, map[string]operation{storage: read, storage + "/": read, storage + "/:type": read, storage + "/count": count, storage + "/:type/count": count})
	}
	return out
}

// historyLine is a line of an answer from the past.
type historyLine struct {
	Result v3.ApplicationUp `json:"result"`
}
