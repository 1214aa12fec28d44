package rest

import (
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// deliveryOperations describes what becomes of the events that integrations deliver, and the templates of webhooks.
func deliveryOperations() map[string]operation {
	out := map[string]operation{
		"GET /as/webhook-templates":              {summary: "Lists the templates of webhooks.", answer: list[v3.WebhookTemplate]("templates"), query: paged},
		"GET /as/webhook-templates/:template_id": {summary: "Shows a template of webhooks.", answer: one[v3.WebhookTemplate](), query: oneMask},
	}
	selection := []string{"device_id", "type", "after", "before"}
	for _, path := range []string{"/as/webhooks/:application_id/:webhook_id", "/as/pubsub/:application_id/:pub_sub_id"} {
		letters := path + "/dead-letters"
		out["GET "+path+"/status"] = operation{summary: "Shows what an integration is doing.", answer: holding[messages.DeliveryStatus]("status")}
		out["GET "+path+"/deliveries"] = operation{summary: "Lists the latest delivery tries, newest first.", answer: one[messages.AttemptPage](),
			query: []string{"outcome", "device_id", "event_id", "limit", "page"}}
		out["POST "+path+"/replay"] = operation{summary: "Delivers again, from a time or an event on.", request: one[messages.ReplayRequest](), answer: one[messages.ReplayResult]()}
		out["GET "+letters] = operation{summary: "Lists events that were given up.", answer: one[messages.DeadLetterPage](), query: append([]string{"limit", "page"}, selection...)}
		out["POST "+letters+"/redrive"] = operation{summary: "Delivers events again that were given up.", request: one[redriveRequest](), answer: one[messages.RedriveResult]()}
		out["DELETE "+letters] = operation{summary: "Deletes events that were given up.", answer: one[deletedBody](), query: append([]string{"all"}, selection...)}
		out["DELETE "+letters+"/:letter_id"] = operation{summary: "Deletes an event that was given up."}
	}
	return out
}
