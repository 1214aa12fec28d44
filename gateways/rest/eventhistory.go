package rest

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"

	"lorikeet/messages"
)

const (
	maxHistory      = 1000    // events that a request gets of the past
	historyBlock    = 256     // entries read at once
	maxHistoryReads = 100     // of one log for one request
	maxRelatedApps  = 100     // logs that are searched for a correlation id
	maxRelatedReads = 20      // of each of them
	maxLogSpan      = 1 << 20 // in Seqs; logs have gaps
)

// past gives up to limit of the newest entries of a log up to last that are wanted and not older than since, in order. It reads from the end backwards,
// and stops when it has read enough: what is further back is not found.
func (s *Server) past(ctx context.Context, app string, last uint64, limit, reads int, since time.Time, wanted func(messages.LogEntry) bool) ([]messages.LogEntry, error) {
	first, _, err := s.cfg.EventLog.LogRange(ctx, app)
	if err != nil || last == 0 {
		return nil, err
	}
	var blocks [][]messages.LogEntry
	count, span := 0, uint64(historyBlock)
	for high := last; high >= first && high > 0 && count < limit && reads > 0; reads-- {
		low := high - min(span, high) // entries above low and up to high
		entries, err := s.cfg.EventLog.ReadLog(ctx, app, low, historyBlock)
		if err != nil {
			return nil, err
		}
		if len(entries) == historyBlock && entries[len(entries)-1].Seq < high && span > historyBlock {
			span = max(span/2, historyBlock) // more in it than one read gives
			continue
		}
		block := slices.DeleteFunc(entries, func(e messages.LogEntry) bool { return e.Seq > high })
		old := len(block) > 0 && block[0].Time.Before(since)
		if len(block) < historyBlock/4 { // a log with gaps
			span = min(2*span, maxLogSpan)
		}
		block = slices.DeleteFunc(block, func(e messages.LogEntry) bool { return e.Time.Before(since) || !wanted(e) })
		blocks, count = append(blocks, block), count+len(block)
		if high = low; old {
			break
		}
	}
	slices.Reverse(blocks)
	out := slices.Concat(blocks...)
	return out[max(len(out)-limit, 0):], nil
}

type eventsBody struct {
	Events []eventBody `json:"events"`
}

// relatedEvents finds the events with a correlation id among the newest of the applications that the caller may read.
func (s *Server) relatedEvents(c *call) error {
	id := c.QueryParam("correlation_id")
	if id == "" || len(id) > 100 {
		return messages.Invalid("no_correlation_id", "the query has no correlation_id of up to 100 characters: send ?correlation_id=as:up:…")
	}
	apps, err := s.readableApplications(c)
	if err != nil {
		return err
	}
	quoted := asJSON(id)
	out := eventsBody{Events: []eventBody{}}
	for _, app := range apps {
		_, last, err := s.cfg.EventLog.LogRange(c.ctx(), app)
		if err != nil {
			return err
		}
		entries, err := s.past(c.ctx(), app, last, maxHistory, maxRelatedReads, time.Time{}, func(e messages.LogEntry) bool { return bytes.Contains(e.JSON, quoted) })
		if err != nil {
			return err
		}
		for _, e := range entries {
			for _, event := range s.eventsOf(e) {
				if slices.Contains(event.CorrelationIDs, id) {
					out.Events = append(out.Events, event)
				}
			}
		}
	}
	slices.SortStableFunc(out.Events, func(a, b eventBody) int { return a.Time.Compare(b.Time) })
	return c.JSON(http.StatusOK, out)
}

func (s *Server) readableApplications(c *call) ([]string, error) {
	if !c.access.Admin {
		if !c.access.Can(c.access.ApplicationID, messages.RightApplicationTrafficRead) {
			return nil, nil
		}
		return []string{c.access.ApplicationID}, nil
	}
	apps, err := s.cfg.Registry.Applications(c.ctx())
	var out []string
	for _, a := range apps[:min(len(apps), maxRelatedApps)] {
		out = append(out, a.IDs.ApplicationID)
	}
	return out, err
}
