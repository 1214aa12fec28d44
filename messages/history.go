package messages

import "time"

// HistoryDisorder bounds how far Event.Time may go back from one entry of a log to a later one: a commit that waited, clocks of several nodes, a
// clock that was set. What lies further out of order may be missed by a query with times.
const HistoryDisorder = 5 * time.Minute

// HistoryQuery names entries of the log of one application.
type HistoryQuery struct {
	ApplicationID string
	DeviceID      string    // "": of all devices
	Type          EventType // "": of all types
	After, Before time.Time // Event.Time lies between, both exclusive; zero: no bound
	NewestFirst   bool
	From          uint64 // begin behind the entry with this Seq, in the direction of reading; 0: with the first one
	Max           int    // entries of one page at most; 0: 1000
}

// Matches says whether an event is meant, its application aside.
func (q *HistoryQuery) Matches(device string, t EventType, at time.Time) bool {
	return (q.DeviceID == "" || device == q.DeviceID) && (q.Type == "" || t == q.Type) &&
		(q.After.IsZero() || at.After(q.After)) && (q.Before.IsZero() || at.Before(q.Before))
}

// HistoryPage is one step through a history. It may have few entries, or none, although more follow: a store bounds what it reads for one page.
type HistoryPage struct {
	Entries []LogEntry
	Next    uint64 // HistoryQuery.From of the next page; 0: there is no more
}
