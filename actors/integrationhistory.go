package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"lorikeet/messages"
)

const (
	historyEvery     = 30 * time.Second // a crash forgets no more than that of the counts
	historyHealth    = time.Second      // but a change of health is noted so soon
	historyFailures  = 20
	historyWriteTime = 5 * time.Second
)

// integrationHistory is what is remembered of an integration over restarts and at another node, beside its place in the log and its dead letters.
type integrationHistory struct {
	Created         time.Time                  `json:"created"` // the integration; one of the same name that was deleted is another
	Delivered       uint64                     `json:"delivered"`
	Failed          uint64                     `json:"failed"`
	DeadLetters     uint64                     `json:"dead_letters"`
	Lost            uint64                     `json:"lost"`
	FailedAttempts  uint64                     `json:"failed_attempts"`
	LastError       string                     `json:"last_error,omitempty"`
	LastStatus      int                        `json:"last_status,omitempty"`
	LastFailedAt    time.Time                  `json:"last_failed_at"`
	LastDeliveredAt time.Time                  `json:"last_delivered_at"`
	Failures        []messages.DeliveryAttempt `json:"failures,omitempty"` // the latest, oldest first
}

// historyID is the id of the document; those of an application begin with its id and a dot.
func historyID(cfg IntegrationConfig) string {
	return cfg.Application + "." + documentKind(cfg.Kind) + "." + cfg.ID
}

// documentKind stays the same when a pub/sub integration changes from NATS to MQTT.
func documentKind(kind string) string {
	if kind != kindWebhook {
		return "pubsub"
	}
	return kind
}

// recall reads what is remembered, once while this node runs the integration. false: the runner is to stop.
func (r *integrationRunner) recall() bool {
	if r.all.Documents == nil || r.memory.wasRecalled() {
		return true
	}
	for {
		history, err := r.readHistory()
		if err == nil {
			r.memory.recall(history)
			r.recalled = true
			r.update(func(s *IntegrationStatus) {
				s.FailedAttempts, s.LastError, s.LastStatus = history.FailedAttempts, history.LastError, history.LastStatus
				s.LastFailedAt, s.LastDeliveredAt = history.LastFailedAt, history.LastDeliveredAt
			})
			return true
		}
		r.logger.Warn("can not read what was delivered before; trying again", "err", err)
		if r.sleep(integrationStoreRetry) != nil {
			return false
		}
	}
}

// readHistory gives a zero history if there is none. A damaged one is none: it must not keep events back.
func (r *integrationRunner) readHistory() (h integrationHistory, err error) {
	id := historyID(r.cfg)
	docs, err := r.all.Documents.ListDocuments(r.ctx, messages.KindDelivery, id, "", 1)
	if err != nil || len(docs) == 0 || docs[0].ID != id {
		return h, err
	}
	if err := json.Unmarshal(docs[0].Value, &h); err != nil {
		r.logger.Warn("what was delivered before is damaged: counting anew", "err", err)
		return integrationHistory{}, nil
	}
	if !h.Created.Equal(r.cfg.Created) {
		return integrationHistory{}, nil
	}
	return h, nil
}

// history is what is to be remembered now.
func (r *integrationRunner) history() integrationHistory {
	h := integrationHistory{Created: r.cfg.Created, Failures: r.memory.latestFailures(historyFailures)}
	h.Delivered, h.Failed, h.DeadLetters, h.Lost = r.memory.counts()
	r.update(func(s *IntegrationStatus) {
		h.FailedAttempts, h.LastError, h.LastStatus, h.LastFailedAt, h.LastDeliveredAt = s.FailedAttempts, s.LastError, s.LastStatus, s.LastFailedAt, s.LastDeliveredAt
	})
	return h
}

// saveHistory makes durable what has changed, not too often. At the end (now) at once.
func (s *integrationRun) saveHistory(now bool) {
	if s.all.Documents == nil || !s.changed {
		return
	}
	at, due := s.all.Now(), s.historyAt.Add(historyEvery)
	if healthy := s.healthy(); healthy != s.savedHealthy {
		due = s.historyAt.Add(historyHealth)
	}
	if !now && at.Before(due) {
		s.wakeAt(due)
		return
	}
	s.historyAt = at
	h := s.history()
	value, err := json.Marshal(h)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), historyWriteTime) // also at a stop
		defer cancel()
		err = s.all.Documents.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindDelivery, ID: historyID(s.cfg), Value: value}})
	}
	if err != nil {
		s.logger.Warn("could not note what was delivered; trying again", "err", err)
		return
	}
	s.changed, s.savedHealthy = false, h.FailedAttempts == 0
}

func (s *integrationRun) healthy() (yes bool) {
	s.update(func(st *IntegrationStatus) { yes = st.FailedAttempts == 0 })
	return yes
}

// forgetHistory is a part of the deletion of an integration.
func (r *integrationRunner) forgetHistory() error {
	if r.all.Documents == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), historyWriteTime)
	defer cancel()
	return r.all.Documents.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindDelivery, ID: historyID(r.cfg)}})
}

// ForgetDeliveries is a part of the deletion of an application: dead letters and what is remembered of deliveries. It finds those too that were left
// when a node ended while it deleted an integration.
func ForgetDeliveries(ctx context.Context, store DocumentStore, applicationID string) error {
	var errs []error
	for _, kind := range []messages.Kind{messages.KindDeadLetter, messages.KindDelivery} {
		if err := eraseDocuments(ctx, store, kind, applicationID+"."); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", kind, err))
		}
	}
	return errors.Join(errs...)
}

// recall takes over what is remembered.
func (m *integrationMemory) recall(h integrationHistory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recalled = true
	m.delivered, m.failed, m.dead, m.lost = m.delivered+h.Delivered, m.failed+h.Failed, m.dead+h.DeadLetters, m.lost+h.Lost
	for _, a := range h.Failures {
		m.attempts.add(a)
		m.failures.add(a)
	}
}

func (m *integrationMemory) wasRecalled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.recalled
}

// latestFailures are at most n, oldest first.
func (m *integrationMemory) latestFailures(n int) (out []messages.DeliveryAttempt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for a := range m.failures.newestFirst {
		if len(out) == n {
			break
		}
		out = append(out, a)
	}
	slices.Reverse(out)
	return out
}
