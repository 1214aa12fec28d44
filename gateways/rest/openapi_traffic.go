package rest

import (
	v3 "lorikeet/messages/v3"
)

// trafficOperations describes downlinks, tests of formatters and simulated uplinks.
func trafficOperations() map[string]operation {
	return map[string]operation{
		"GET /as/applications/:application_id/devices/:device_id/down":                 {summary: "Lists the downlink queue, the head first.", answer: one[downlinksBody]()},
		"POST /as/applications/:application_id/devices/:device_id/down/push":           {summary: "Appends downlinks to the queue.", request: one[downlinksRequest](), answer: one[acceptedBody]()},
		"POST /as/applications/:application_id/devices/:device_id/down/replace":        {summary: "Replaces the downlink queue; an empty list clears it.", request: one[downlinksRequest](), answer: one[acceptedBody]()},
		"POST /as/applications/:application_id/devices/:device_id/down/cancel":         {summary: "Takes several downlinks out of the queue.", request: one[cancelRequest](), answer: one[cancelBody]()},
		"DELETE /as/applications/:application_id/devices/:device_id/down/:downlink_id": {summary: "Takes a downlink out of the queue."},
		"POST /as/applications/:application_id/devices/:device_id/down/encode":         {summary: "Runs a formatter on a downlink, for a test.", request: one[formatterTest](), answer: one[downlinkBody]()},
		"POST /as/applications/:application_id/devices/:device_id/down/decode":         {summary: "Runs a formatter on the bytes of a downlink, for a test.", request: one[formatterTest](), answer: one[downlinkBody]()},
		"POST /as/applications/:application_id/devices/:device_id/up/decode":           {summary: "Runs a formatter on an uplink, for a test.", request: one[formatterTest](), answer: one[uplinkBody]()},
		"POST /as/applications/:application_id/devices/:device_id/up/simulate":         {summary: "Publishes a message as if the device had sent it.", request: one[v3.ApplicationUp]()},
	}
}

// integrationOperations describes webhooks and pub/sub.
func integrationOperations() map[string]operation {
	return map[string]operation{
		"GET /as/webhook-formats":                                                                    {summary: "Lists the body formats of webhooks.", answer: one[formatsBody]()},
		"GET /as/webhooks/:application_id":                                                           {summary: "Lists webhooks.", answer: listOf("webhooks", shownWebhook), query: paged},
		"POST /as/webhooks/:application_id":                                                          {summary: "Makes or changes a webhook.", request: write[v3.Webhook]("webhook"), answer: shownWebhook},
		"GET /as/webhooks/:application_id/:webhook_id":                                               {summary: "Shows a webhook.", answer: shownWebhook, query: oneMask},
		"PUT /as/webhooks/:application_id/:webhook_id":                                               {summary: "Makes or changes a webhook.", request: write[v3.Webhook]("webhook"), answer: shownWebhook},
		"DELETE /as/webhooks/:application_id/:webhook_id":                                            {summary: "Deletes a webhook."},
		"POST /as/webhooks/:application_id/:webhook_id/signing-secret":                               {summary: "Makes a new signing secret and shows it this once; the newest of before goes on signing.", answer: one[signingSecretBody]()},
		"DELETE /as/webhooks/:application_id/:webhook_id/signing-secret/previous":                    {summary: "Ends a rotation: only the newest secret signs.", answer: one[signingSecretBody]()},
		"POST /as/applications/:application_id/webhooks/:webhook_id/devices/:device_id/down/push":    {summary: "Appends downlinks to the queue: the URL that X-Downlink-Push names.", request: one[downlinksRequest]()},
		"POST /as/applications/:application_id/webhooks/:webhook_id/devices/:device_id/down/replace": {summary: "Replaces the downlink queue: the URL that X-Downlink-Replace names.", request: one[downlinksRequest]()},
		"GET /as/pubsub-formats":                                                                     {summary: "Lists the body formats of pub/sub integrations.", answer: one[formatsBody]()},
		"GET /as/pubsub/:application_id":                                                             {summary: "Lists pub/sub integrations.", answer: listOf("pubsubs", shownPubSub), query: paged},
		"POST /as/pubsub/:application_id":                                                            {summary: "Makes or changes a pub/sub integration.", request: write[v3.PubSub]("pubsub"), answer: shownPubSub},
		"GET /as/pubsub/:application_id/:pub_sub_id":                                                 {summary: "Shows a pub/sub integration.", answer: shownPubSub, query: oneMask},
		"PUT /as/pubsub/:application_id/:pub_sub_id":                                                 {summary: "Makes or changes a pub/sub integration.", request: write[v3.PubSub]("pubsub"), answer: shownPubSub},
		"DELETE /as/pubsub/:application_id/:pub_sub_id":                                              {summary: "Deletes a pub/sub integration."},
	}
}

// What webhooks and pub/sub integrations show beside what is written.
var (
	shownWebhook = extended[v3.Webhook](tree{"signing_secret_count": tree{"type": "integer"}})
	shownPubSub  = extended[v3.PubSub](tree{"health_status": tree{}})
)
