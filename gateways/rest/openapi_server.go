package rest

import (
	"lorikeet/messages"
)

// serverOperations describes what is about the server itself.
func serverOperations() map[string]operation {
	return map[string]operation{
		"GET /":               {summary: "Names the server and the way to the API.", answer: one[hintBody]()},
		"GET /healthz":        {summary: "Says that the process works.", answer: one[statusBody]()},
		"HEAD /healthz":       {summary: "Says that the process works."},
		"GET /readyz":         {summary: "Says whether the server can take work; 503 if not.", answer: one[statusBody]()},
		"HEAD /readyz":        {summary: "Says whether the server can take work; 503 if not."},
		"GET /metrics":        {summary: "Gives the metrics in the text format of Prometheus.", answer: text, media: "text/plain"},
		"GET /cluster":        {summary: "Shows the nodes of the cluster.", answer: one[messages.ClusterStatus]()},
		"GET /auth_info":      {summary: "Tells a key about itself.", answer: one[authInfoBody]()},
		"GET /openapi.json":   {summary: "Gives this document.", answer: one[openAPIBody]()},
		"POST /events":        {summary: "Streams events until the client leaves: one JSON object a line, or server-sent events with Accept: text/event-stream.", request: one[eventsRequest](), answer: one[eventLine]()},
		"GET /events/related": {summary: "Finds the events with a correlation id among the newest.", answer: one[eventsBody](), query: []string{"correlation_id"}},
	}
}

// eventLine is a line of an event stream.
type eventLine struct {
	Result eventBody `json:"result"`
}

// openAPIBody is the OpenAPI document itself.
type openAPIBody struct {
	OpenAPI string `json:"openapi"`
	Info    any    `json:"info"`
	Servers any    `json:"servers"`
	Paths   any    `json:"paths"`
	Comp    any    `json:"components"`
	Secure  any    `json:"security"`
}
