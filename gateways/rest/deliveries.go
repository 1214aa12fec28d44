package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Deliveries knows what became of the events that integrations deliver, on whichever node they run. messages.CodeUnavailable: that node can't be asked now.
type Deliveries interface {
	IntegrationStatus(ctx context.Context, ref messages.IntegrationRef) (messages.DeliveryStatus, error)
	// Attempts are the latest delivery tries, newest first, as far as the node remembers them.
	Attempts(ctx context.Context, ref messages.IntegrationRef, q messages.AttemptQuery) (messages.AttemptPage, error)
	// Replay is durable when it returns.
	Replay(ctx context.Context, ref messages.IntegrationRef, req messages.ReplayRequest) (messages.ReplayResult, error)
	DeadLetters(ctx context.Context, ref messages.IntegrationRef, q messages.DeadLetterQuery) (messages.DeadLetterPage, error)
	Redrive(ctx context.Context, ref messages.IntegrationRef, q messages.DeadLetterQuery) (messages.RedriveResult, error)
	DeleteDeadLetters(ctx context.Context, ref messages.IntegrationRef, q messages.DeadLetterQuery) (int, error)
}

const (
	maxAttempts   = 200 // in one answer
	maxLetterIDs  = 1000
	slowOperation = time.Minute // a replay waits for the deliveries under way, and both look through the log
)

// deliveryRoutes are the same for webhooks and pub/sub integrations.
func deliveryRoutes() (out []route) {
	for _, k := range []integrationKind{
		{"webhook", "/as/webhooks/:application_id/:webhook_id", "webhook_id"},
		{"pubsub", "/as/pubsub/:application_id/:pub_sub_id", "pub_sub_id"},
	} {
		out = append(out,
			route{http.MethodGet, k.path + "/status", readTraffic, k.with((*Server).integrationStatus)},
			route{http.MethodGet, k.path + "/deliveries", readTraffic, k.with((*Server).listAttempts)},
			route{http.MethodPost, k.path + "/replay", integrate, k.with((*Server).replay)},
			route{http.MethodGet, k.path + "/dead-letters", readTraffic, k.with((*Server).listDeadLetters)},
			route{http.MethodPost, k.path + "/dead-letters/redrive", integrate, k.with((*Server).redrive)},
			route{http.MethodDelete, k.path + "/dead-letters", integrate, k.with((*Server).deleteDeadLetters)},
			route{http.MethodDelete, k.path + "/dead-letters/:letter_id", integrate, k.with((*Server).deleteDeadLetter)},
		)
	}
	return out
}

// integrationKind is where integrations of a kind are found.
type integrationKind struct{ name, path, param string }

// with gives the handler the integration that the path names, after it was found in the registry.
func (k integrationKind) with(handle func(*Server, *call, messages.IntegrationRef) error) func(*Server, *call) error {
	return func(s *Server, c *call) error {
		ref := messages.IntegrationRef{Kind: k.name, ApplicationID: c.app(), ID: c.Param(k.param)}
		var err error
		if k.name == "webhook" {
			_, err = s.cfg.Registry.Webhook(c.ctx(), ref.ApplicationID, ref.ID)
		} else {
			_, err = s.cfg.Registry.PubSub(c.ctx(), ref.ApplicationID, ref.ID)
		}
		if err != nil {
			return err
		}
		return handle(s, c, ref)
	}
}

func (s *Server) integrationStatus(c *call, ref messages.IntegrationRef) error {
	status, err := s.cfg.Deliveries.IntegrationStatus(c.ctx(), ref)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"status": status})
}

func (s *Server) listAttempts(c *call, ref messages.IntegrationRef) error {
	q := messages.AttemptQuery{Outcome: c.QueryParam("outcome"), DeviceID: c.QueryParam("device_id"), EventID: c.QueryParam("event_id")}
	outcomes := []string{messages.AttemptDelivered, messages.AttemptFailed, messages.AttemptDeadLetter}
	if q.Outcome != "" && !slices.Contains(outcomes, q.Outcome) {
		return messages.Invalid("invalid_outcome", "outcome=%s: use one of delivered, failed, dead_letter", shorten(q.Outcome))
	}
	var err error
	if q.Skip, q.Limit, err = c.pageOf(maxAttempts, maxAttempts); err != nil {
		return err
	}
	page, err := s.cfg.Deliveries.Attempts(c.ctx(), ref, q)
	if err != nil {
		return err
	}
	c.total(page.Total)
	return c.JSON(http.StatusOK, page)
}

// replay reads {"from":"2026-01-01T00:00:00Z"} or {"event_id":"…"}.
func (s *Server) replay(c *call, ref messages.IntegrationRef) error {
	req, err := decodeBody[messages.ReplayRequest](c)
	if err != nil {
		return err
	}
	if (req.From == nil) == (req.EventID == "") {
		return messages.Invalid("invalid_replay", `say from where on: {"from":"2026-01-01T00:00:00Z"} or {"event_id":"…"}`)
	}
	ctx, cancel := context.WithTimeout(c.ctx(), slowOperation)
	defer cancel()
	result, err := s.cfg.Deliveries.Replay(ctx, ref, req)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, result)
}

func (s *Server) listDeadLetters(c *call, ref messages.IntegrationRef) error {
	q, err := c.deadLetterQuery()
	if err != nil {
		return err
	}
	if q.Skip, q.Limit, err = c.page(); err != nil {
		return err
	}
	page, err := s.cfg.Deliveries.DeadLetters(c.ctx(), ref, q)
	if err != nil {
		return err
	}
	c.total(page.Total)
	return c.JSON(http.StatusOK, page)
}

// deadLetterQuery reads device_id, type, after and before.
func (c *call) deadLetterQuery() (q messages.DeadLetterQuery, err error) {
	q.DeviceID, q.Type = c.QueryParam("device_id"), messages.EventType(c.QueryParam("type"))
	for name, to := range map[string]**time.Time{"after": &q.After, "before": &q.Before} {
		text := c.QueryParam(name)
		if text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return q, messages.Invalid("invalid_"+name, "%s=%s: use a time such as 2026-01-01T00:00:00Z", name, shorten(text))
		}
		*to = &t
	}
	return q, checkDeadLetterQuery(q)
}

func checkDeadLetterQuery(q messages.DeadLetterQuery) error {
	switch {
	case q.Type != "" && !isEventType(string(q.Type)):
		return messages.Invalid("invalid_type", "type %q is not known: use for example uplink_message", shorten(string(q.Type)))
	case len(q.IDs) > maxLetterIDs:
		return messages.Invalid("invalid_ids", "%d ids: use at most %d", len(q.IDs), maxLetterIDs)
	}
	return nil
}

// redriveRequest selects dead letters by any of its members, or all.
type redriveRequest struct {
	IDs      []string           `json:"ids"`
	DeviceID string             `json:"device_id"`
	Type     messages.EventType `json:"type"`
	After    *time.Time         `json:"after"`
	Before   *time.Time         `json:"before"`
	All      bool               `json:"all"`
}

func (s *Server) redrive(c *call, ref messages.IntegrationRef) error {
	req, err := decodeBody[redriveRequest](c)
	if err != nil {
		return err
	}
	q := messages.DeadLetterQuery{IDs: req.IDs, DeviceID: req.DeviceID, Type: req.Type, After: req.After, Before: req.Before}
	if err := checkDeadLetterQuery(q); err != nil {
		return err
	}
	if !selects(q) && !req.All {
		return messages.Invalid("no_selection", `say which: {"ids":["…"]}, or device_id, type, after and before, or {"all":true}`)
	}
	ctx, cancel := context.WithTimeout(c.ctx(), slowOperation)
	defer cancel()
	result, err := s.cfg.Deliveries.Redrive(ctx, ref, q)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, result)
}

func selects(q messages.DeadLetterQuery) bool {
	return len(q.IDs) > 0 || q.DeviceID != "" || q.Type != "" || q.After != nil || q.Before != nil
}

type deletedBody struct {
	Deleted int `json:"deleted"`
}

func (s *Server) deleteDeadLetters(c *call, ref messages.IntegrationRef) error {
	q, err := c.deadLetterQuery()
	if err != nil {
		return err
	}
	if !selects(q) && c.QueryParam("all") != "true" {
		return messages.Invalid("no_selection", "say which: device_id, type, after and before, or all=true")
	}
	n, err := s.cfg.Deliveries.DeleteDeadLetters(c.ctx(), ref, q)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, deletedBody{n})
}

func (s *Server) deleteDeadLetter(c *call, ref messages.IntegrationRef) error {
	id := c.Param("letter_id")
	n, err := s.cfg.Deliveries.DeleteDeadLetters(c.ctx(), ref, messages.DeadLetterQuery{IDs: []string{id}})
	switch {
	case err != nil:
		return err
	case n == 0:
		return messages.NotFound("dead_letter_not_found", "there is no dead letter %q: it may have been delivered meanwhile", shorten(id))
	}
	return c.empty()
}

// deliveryStatus is the status as a member of a webhook; nil if it is not known now.
func (s *Server) deliveryStatus(ctx context.Context, w *v3.Webhook) json.RawMessage {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	status, err := s.cfg.Deliveries.IntegrationStatus(ctx, messages.IntegrationRef{Kind: "webhook", ApplicationID: w.IDs.ApplicationIDs.ApplicationID, ID: w.IDs.WebhookID})
	if err != nil {
		return nil
	}
	raw, err := json.Marshal(status)
	if err != nil {
		return nil
	}
	return raw
}

// noDeliveries is a server that runs no integrations.
type noDeliveries struct{}

var errNoDeliveries = messages.Errorf(messages.CodeUnavailable, "integrations_unavailable", "this server runs no integrations")

func (noDeliveries) IntegrationStatus(context.Context, messages.IntegrationRef) (messages.DeliveryStatus, error) {
	return messages.DeliveryStatus{}, errNoDeliveries
}
func (noDeliveries) Attempts(context.Context, messages.IntegrationRef, messages.AttemptQuery) (messages.AttemptPage, error) {
	return messages.AttemptPage{}, errNoDeliveries
}
func (noDeliveries) Replay(context.Context, messages.IntegrationRef, messages.ReplayRequest) (messages.ReplayResult, error) {
	return messages.ReplayResult{}, errNoDeliveries
}
func (noDeliveries) DeadLetters(context.Context, messages.IntegrationRef, messages.DeadLetterQuery) (messages.DeadLetterPage, error) {
	return messages.DeadLetterPage{}, errNoDeliveries
}
func (noDeliveries) Redrive(context.Context, messages.IntegrationRef, messages.DeadLetterQuery) (messages.RedriveResult, error) {
	return messages.RedriveResult{}, errNoDeliveries
}
func (noDeliveries) DeleteDeadLetters(context.Context, messages.IntegrationRef, messages.DeadLetterQuery) (int, error) {
	return 0, errNoDeliveries
}
