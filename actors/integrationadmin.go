package actors

import (
	"context"
	"time"

	"lorikeet/messages"
)

const kindWebhook = "webhook"

// lookBatch is how many entries of the log are read at once to look for something.
const lookBatch = 500

// exactReplay is how many entries of the log are looked at to tell how many events a replay repeats. Beyond it that is estimated.
const exactReplay = 50_000

// integrationReplay is a place in the log to begin at.
type integrationReplay struct {
	cursor uint64
	saved  chan struct{} // closed when the place is durable
}

// ErrNotHere is what is answered about an integration that this node does not run.
var ErrNotHere = messages.Errorf(messages.CodeUnavailable, "integration_not_running", "the integration is being started or moves to another node: try again in a moment")

func (m *Integrations) runner(key string) (*integrationRunner, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.running[key]
	if h == nil {
		return nil, ErrNotHere
	}
	return h.runner, nil
}

// Attempts gives the latest delivery tries of the integration of key, newest first. They are kept in memory, a few hundred of each, and the last 20 that failed also
// over restarts; ErrNotHere.
func (m *Integrations) Attempts(key string, q messages.AttemptQuery) (messages.AttemptPage, error) {
	r, err := m.runner(key)
	if err != nil {
		return messages.AttemptPage{}, err
	}
	return r.memory.page(q), nil
}

// DeadLetters gives the events that the integration of key has given up, oldest first; ErrNotHere.
func (m *Integrations) DeadLetters(ctx context.Context, key string, q messages.DeadLetterQuery) (messages.DeadLetterPage, error) {
	page := messages.DeadLetterPage{DeadLetters: []messages.DeadLetter{}}
	r, err := m.runner(key)
	if err != nil {
		return page, err
	}
	_, letters, err := r.dead.matches(ctx, q)
	if err != nil {
		return page, err
	}
	page.Total = len(letters)
	start := min(q.Skip, len(letters))
	page.DeadLetters = append(page.DeadLetters, letters[start:min(start+q.Limit, len(letters))]...)
	return page, nil
}

// DeleteDeadLetters forgets dead letters and says how many; ErrNotHere.
func (m *Integrations) DeleteDeadLetters(ctx context.Context, key string, q messages.DeadLetterQuery) (int, error) {
	r, err := m.runner(key)
	if err != nil {
		return 0, err
	}
	docs, _, err := r.dead.matches(ctx, q)
	if err != nil {
		return 0, err
	}
	return len(docs), r.dead.erase(ctx, r.memory, docs)
}

// Redrive has dead letters delivered again, with the same rules as all events. Each is kept until it is delivered; ErrNotHere.
func (m *Integrations) Redrive(ctx context.Context, key string, q messages.DeadLetterQuery) (messages.RedriveResult, error) {
	var out messages.RedriveResult
	r, err := m.runner(key)
	if err != nil {
		return out, err
	}
	_, letters, err := r.dead.matches(ctx, q)
	if err != nil {
		return out, err
	}
	var found []messages.DeadLetter
	for _, letter := range letters {
		seq, err := r.placeOf(ctx, letter)
		if err != nil {
			return out, err
		}
		if seq == 0 {
			out.Gone++
			continue
		}
		letter.Seq = seq
		found = append(found, letter)
	}
	out.Redriven = len(found)
	r.memory.askRedrive(found)
	return out, nil
}

// placeOf finds the event of a dead letter in the log; 0 if it is not there any more. In a log that was copied to another store it has another place.
func (r *integrationRunner) placeOf(ctx context.Context, d messages.DeadLetter) (uint64, error) {
	entries, err := r.log.ReadLog(ctx, r.cfg.Application, d.Seq-1, 1)
	if err != nil || len(entries) > 0 && entries[0].ID == d.EventID {
		return d.Seq, err
	}
	const around = 10 * time.Second // entries are in the order of their times but for fractions of a second
	after, err := integrationStartAt(ctx, r.log, r.cfg.Application, d.EventTime.Add(-around))
	for err == nil {
		if entries, err = r.log.ReadLog(ctx, r.cfg.Application, after, lookBatch); len(entries) == 0 {
			break
		}
		for _, e := range entries {
			switch {
			case e.ID == d.EventID:
				return e.Seq, nil
			case e.Time.After(d.EventTime.Add(around)):
				return 0, nil
			}
			after = e.Seq
		}
	}
	return 0, err
}

// Replay moves the place of the integration of key back, durably, and has everything after it delivered again, in order per device. What is under way is
// broken off if it does not end within seconds, so it may be repeated too. It never skips: a place ahead of the present one changes nothing. ErrNotHere.
func (m *Integrations) Replay(ctx context.Context, key string, req messages.ReplayRequest) (out messages.ReplayResult, err error) {
	r, err := m.runner(key)
	if err != nil {
		return out, err
	}
	place, first, err := r.replayPlace(ctx, req)
	if err != nil {
		return out, err
	}
	cursor, ok, err := r.log.LoadCursor(ctx, key)
	if err != nil {
		return out, err
	}
	if !ok || cursor == integrationNoPlace {
		return out, ErrNotHere
	}
	if first != nil {
		out.FirstEventID, out.FirstTime = first.ID, &first.Time
	}
	if out.Cursor = min(place, cursor); place >= cursor {
		return out, nil
	}
	if out.Events, out.Estimated, err = r.countWanted(ctx, place, cursor); err != nil {
		return out, err
	}
	replay := &integrationReplay{cursor: place, saved: make(chan struct{})}
	m.mu.Lock()
	h := m.running[key]
	if h == nil || m.stopped {
		m.mu.Unlock()
		return out, ErrNotHere
	}
	m.setLocked(key, h.runner.cfg, h.runner.build, replay)
	m.mu.Unlock()
	select {
	case <-replay.saved:
		return out, nil
	case <-ctx.Done():
		return out, messages.Errorf(messages.CodeUnavailable, "replay_unknown",
			"the replay was not confirmed in time: look at the cursor in the status before you ask for it again")
	}
}

// replayPlace is the place before the first event that is to be repeated.
func (r *integrationRunner) replayPlace(ctx context.Context, req messages.ReplayRequest) (place uint64, first *messages.LogEntry, err error) {
	if req.EventID != "" {
		e, err := findEvent(ctx, r.log, r.cfg.Application, req.EventID)
		if err != nil {
			return 0, nil, err
		}
		return e.Seq - 1, &e, nil
	}
	if place, err = integrationStartAt(ctx, r.log, r.cfg.Application, *req.From); err != nil {
		return 0, nil, err
	}
	entries, err := r.log.ReadLog(ctx, r.cfg.Application, place, 1)
	if err != nil || len(entries) == 0 {
		return place, nil, err
	}
	return place, &entries[0], nil
}

// findEvent looks for an event from the end of the log backwards, in windows that double.
func findEvent(ctx context.Context, log IntegrationLog, app, id string) (messages.LogEntry, error) {
	first, last, err := log.LogRange(ctx, app)
	if err != nil {
		return messages.LogEntry{}, err
	}
	first = max(first, 1)
	for end, size := last, uint64(1024); end >= first; size *= 2 {
		begin := first
		if end-first >= size {
			begin = end - size + 1
		}
		for after := begin - 1; after < end; {
			entries, err := log.ReadLog(ctx, app, after, lookBatch)
			if err != nil {
				return messages.LogEntry{}, err
			}
			if len(entries) == 0 {
				break
			}
			for _, e := range entries {
				if e.ID == id {
					return e, nil
				}
				after = e.Seq
			}
		}
		end = begin - 1
	}
	return messages.LogEntry{}, messages.NotFound("event_not_found", "no event with this id is in the log: it may be older than the retention; give a time instead")
}

// countWanted is the number of entries with after < Seq ≤ upTo that the integration takes.
func (r *integrationRunner) countWanted(ctx context.Context, after, upTo uint64) (n uint64, estimated bool, err error) {
	wants := r.wants.Load()
	if wants == nil { // its configuration can't work, so it is not known what it wants
		n, err = r.log.CountLog(ctx, r.cfg.Application, after, upTo)
		return n, true, err
	}
	for seen := 0; seen < exactReplay; {
		entries, err := r.log.ReadLog(ctx, r.cfg.Application, after, lookBatch)
		if err != nil || len(entries) == 0 {
			return n, false, err
		}
		for _, e := range entries {
			if e.Seq > upTo {
				return n, false, nil
			}
			if after = e.Seq; (*wants)(e.Type) {
				n++
			}
		}
		seen += len(entries)
	}
	rest, err := r.log.CountLog(ctx, r.cfg.Application, after, upTo)
	return n + rest, true, err
}

// Message is the status as it is shown, by the node of that name.
func (s IntegrationStatus) Message(node string) messages.DeliveryStatus {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	return messages.DeliveryStatus{
		State: string(s.State), Node: node, Cursor: s.Cursor, Lag: s.Lag, OldestAge: s.OldestAge.Seconds(), Delivered: s.Delivered, Failed: s.Failed,
		DeadLetters: s.DeadLetters, DeadLettersKept: s.DeadLettersKept, Lost: s.Lost, FailedAttempts: s.FailedAttempts, LastError: s.LastError, LastStatus: s.LastStatus,
		LastFailedAt: at(s.LastFailedAt), LastDeliveredAt: at(s.LastDeliveredAt), NextTryAt: at(s.NextTryAt), Redriving: s.Redriving, Connection: s.Connection,
	}
}
