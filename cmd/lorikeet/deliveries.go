package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"lorikeet/actors"
	"lorikeet/messages"
)

// deliveries answers for integrations, wherever in the cluster they run.
type deliveries struct{ s *server }

// What is asked of the node that runs an integration.
const (
	askStatus      = "status"
	askAttempts    = "attempts"
	askReplay      = "replay"
	askDeadLetters = "dead_letters"
	askRedrive     = "redrive"
	askDelete      = "delete_dead_letters"
)

// integrationPatience is how long the node that runs an integration may take, if the caller sets no limit.
const integrationPatience = 10 * time.Second

// integrationCall is a question between nodes.
type integrationCall struct {
	Ask  string          `json:"ask"`
	Key  string          `json:"key"`
	Body json.RawMessage `json:"body,omitempty"`
}

func (d deliveries) IntegrationStatus(ctx context.Context, ref messages.IntegrationRef) (messages.DeliveryStatus, error) {
	return askIntegration[messages.DeliveryStatus](ctx, d.s, ref, askStatus, nil)
}

func (d deliveries) Attempts(ctx context.Context, ref messages.IntegrationRef, q messages.AttemptQuery) (messages.AttemptPage, error) {
	return askIntegration[messages.AttemptPage](ctx, d.s, ref, askAttempts, q)
}

func (d deliveries) Replay(ctx context.Context, ref messages.IntegrationRef, req messages.ReplayRequest) (messages.ReplayResult, error) {
	return askIntegration[messages.ReplayResult](ctx, d.s, ref, askReplay, req)
}

func (d deliveries) DeadLetters(ctx context.Context, ref messages.IntegrationRef, q messages.DeadLetterQuery) (messages.DeadLetterPage, error) {
	return askIntegration[messages.DeadLetterPage](ctx, d.s, ref, askDeadLetters, q)
}

func (d deliveries) Redrive(ctx context.Context, ref messages.IntegrationRef, q messages.DeadLetterQuery) (messages.RedriveResult, error) {
	return askIntegration[messages.RedriveResult](ctx, d.s, ref, askRedrive, q)
}

func (d deliveries) DeleteDeadLetters(ctx context.Context, ref messages.IntegrationRef, q messages.DeadLetterQuery) (int, error) {
	return askIntegration[int](ctx, d.s, ref, askDelete, q)
}

// askIntegration asks the node that runs an integration. On a single node the question goes the same way, but for the network.
func askIntegration[T any](ctx context.Context, s *server, ref messages.IntegrationRef, ask string, question any) (answer T, err error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, integrationPatience)
		defer cancel()
	}
	q := integrationCall{Ask: ask, Key: integrationKey(ref.Kind, ref.ApplicationID, ref.ID)}
	if q.Body, err = json.Marshal(question); err != nil {
		return answer, err
	}
	var body []byte
	if owner := s.ownerOf(q.Key); owner == "" {
		body, err = s.answerIntegration(ctx, q)
	} else {
		var call []byte
		if call, err = json.Marshal(q); err == nil {
			body, err = s.clustered.node.AskNode(ctx, owner, kindIntegration, call)
		}
	}
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(body, &answer)
}

// ownerOf is the other node that runs an integration; "" if it runs here.
func (s *server) ownerOf(key string) string {
	if s.clustered == nil {
		return ""
	}
	owner := s.clustered.node.OwnerOfKey(key)
	if owner == s.clustered.name {
		return ""
	}
	return owner
}

// handleIntegration answers another node.
func (s *server) handleIntegration(ctx context.Context, _ string, body []byte) ([]byte, error) {
	var q integrationCall
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, messages.Invalid("malformed_message", "question of another node about an integration: %w", err)
	}
	return s.answerIntegration(ctx, q)
}

func (s *server) answerIntegration(ctx context.Context, q integrationCall) ([]byte, error) {
	all := s.integrations
	switch q.Ask {
	case askStatus:
		status, ok := all.Status(ctx, q.Key)
		if !ok {
			return nil, actors.ErrNotHere
		}
		return json.Marshal(status.Message(s.nodeName()))
	case askAttempts:
		return answer(q, func(query messages.AttemptQuery) (messages.AttemptPage, error) {
			page, err := all.Attempts(q.Key, query)
			page.Node = s.nodeName()
			return page, err
		})
	case askReplay:
		return answer(q, func(req messages.ReplayRequest) (messages.ReplayResult, error) { return all.Replay(ctx, q.Key, req) })
	case askDeadLetters:
		return answer(q, func(query messages.DeadLetterQuery) (messages.DeadLetterPage, error) {
			return all.DeadLetters(ctx, q.Key, query)
		})
	case askRedrive:
		return answer(q, func(query messages.DeadLetterQuery) (messages.RedriveResult, error) {
			return all.Redrive(ctx, q.Key, query)
		})
	case askDelete:
		return answer(q, func(query messages.DeadLetterQuery) (int, error) { return all.DeleteDeadLetters(ctx, q.Key, query) })
	}
	return nil, messages.Invalid("unknown_question", "question %.40q about an integration is not known here: bring all nodes to one version", q.Ask)
}

func answer[In, Out any](q integrationCall, do func(In) (Out, error)) ([]byte, error) {
	var in In
	if err := json.Unmarshal(q.Body, &in); err != nil {
		return nil, messages.Invalid("malformed_message", "question of another node about an integration: %w", err)
	}
	out, err := do(in)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

func (s *server) nodeName() string {
	if s.clustered != nil {
		return s.clustered.name
	}
	name, _ := os.Hostname()
	return name
}

// deleteApplicationData forgets what integrations have kept of an application beside its registry documents.
func (s *server) deleteApplicationData(ctx context.Context, applicationID string) error {
	return errors.Join(s.store.DeleteApplication(ctx, applicationID), actors.ForgetDeliveries(ctx, s.store, applicationID))
}
