package messages

import "time"

// IntegrationRef names a webhook or a pub/sub integration. It crosses nodes as JSON, as all types of this file do; 64-bit numbers are strings.
type IntegrationRef struct {
	Kind          string `json:"kind"` // "webhook" or "pubsub"
	ApplicationID string `json:"application_id"`
	ID            string `json:"id"`
}

// DeliveryStatus is what an integration is doing at one moment. Counts are since it was made; a crash of the node that
// runs it may forget those of the last 30 s.
type DeliveryStatus struct {
	State           string           `json:"state"` // starting, running, paused, open, invalid or stopped
	Node            string           `json:"node,omitempty"`
	Cursor          uint64           `json:"cursor,string"` // everything of the log up to here is settled
	Lag             uint64           `json:"lag,string"`    // entries of the log after it, by estimate if they are many
	OldestAge       float64          `json:"oldest_age_seconds"`
	Delivered       uint64           `json:"delivered,string"`
	Failed          uint64           `json:"failed,string"`              // tries
	DeadLetters     uint64           `json:"dead_letters,string"`        // events given up
	DeadLettersKept int              `json:"dead_letters_kept"`          // that are listed now
	Lost            uint64           `json:"lost,string"`                // events that left the log before they were delivered
	FailedAttempts  uint64           `json:"failed_attempts,string"`     // in a row
	LastError       string           `json:"last_error,omitempty"`       // of the last try that failed, or why the configuration can't work
	LastStatus      int              `json:"last_status_code,omitempty"` // of HTTP, of the last try that failed
	LastFailedAt    *time.Time       `json:"last_failed_at,omitempty"`
	LastDeliveredAt *time.Time       `json:"last_delivered_at,omitempty"`
	NextTryAt       *time.Time       `json:"next_try_at,omitempty"` // of an event that failed, or of the next probe
	Redriving       int              `json:"redriving,omitempty"`   // dead letters that are under way again
	Connection      *ConnectionState `json:"connection,omitempty"`  // of integrations that keep one
}

// What a DeliveryNotice tells.
const (
	NoticeStarted = "started" // a pub/sub integration has its connection
	NoticeStopped = "stopped" // it was ended: changed, deleted, or it moves to another node
	NoticeFailed  = "failed"  // a try failed: to deliver, or to connect
)

// DeliveryNotice is what happened to an integration, for those who watch just now.
type DeliveryNotice struct {
	IntegrationRef
	What       string    `json:"what"`
	Time       time.Time `json:"time"`
	DeviceID   string    `json:"device_id,omitempty"`   // of the event that was not delivered, if it was one
	Error      string    `json:"error,omitempty"`       // of what failed
	StatusCode int       `json:"status_code,omitempty"` // of HTTP
}

// Outcomes of a delivery try.
const (
	AttemptDelivered  = "delivered"
	AttemptFailed     = "failed"      // it is tried again
	AttemptDeadLetter = "dead_letter" // it was given up
)

// DeliveryAttempt is one try to deliver one event.
type DeliveryAttempt struct {
	Time       time.Time  `json:"time"` // of the answer
	EventID    string     `json:"event_id,omitempty"`
	DeviceID   string     `json:"device_id"`
	Type       EventType  `json:"type"`
	Seq        uint64     `json:"seq,string"`
	Outcome    string     `json:"outcome"`
	Latency    float64    `json:"latency_seconds"`
	StatusCode int        `json:"status_code,omitempty"` // of HTTP
	Error      string     `json:"error,omitempty"`
	Try        int        `json:"try"`                   // 1 is the first
	BatchSize  int        `json:"batch_size,omitempty"`  // events in the request, if there may be several
	NextTryAt  *time.Time `json:"next_try_at,omitempty"` // at the earliest
	Redriven   bool       `json:"redriven,omitempty"`    // it was a dead letter
}

// AttemptQuery selects delivery tries. Zero members select all.
type AttemptQuery struct {
	Outcome  string `json:"outcome,omitempty"`
	DeviceID string `json:"device_id,omitempty"`
	EventID  string `json:"event_id,omitempty"`
	Skip     int    `json:"skip,omitempty"`
	Limit    int    `json:"limit"`
}

// AttemptPage is a part of the delivery tries that a node remembers, newest first.
type AttemptPage struct {
	Attempts []DeliveryAttempt `json:"deliveries"`
	Total    int               `json:"total"` // that the query selects
	Node     string            `json:"node,omitempty"`
}

// ReplayRequest says from where on events are to be delivered again: one of both.
type ReplayRequest struct {
	From    *time.Time `json:"from,omitempty"`     // the first event of this time or later
	EventID string     `json:"event_id,omitempty"` // this event
}

// ReplayResult says what a replay came to.
type ReplayResult struct {
	FirstEventID string     `json:"first_event_id,omitempty"`
	FirstTime    *time.Time `json:"first_event_at,omitempty"`
	Cursor       uint64     `json:"cursor,string"` // the place now, durably
	Events       uint64     `json:"events,string"` // of those that were settled already, will be delivered again
	Estimated    bool       `json:"estimated,omitempty"`
}

// DeadLetter is an event that an integration has given up. The event itself is in the log, as long as that keeps it.
type DeadLetter struct {
	ID         string    `json:"id"` // sorts by the time of the event
	EventID    string    `json:"event_id"`
	DeviceID   string    `json:"device_id"`
	Type       EventType `json:"type"`
	EventTime  time.Time `json:"event_time"`
	Seq        uint64    `json:"seq,string"` // its place in the log
	Reason     string    `json:"reason"`
	StatusCode int       `json:"status_code,omitempty"` // of HTTP
	Tries      int       `json:"tries"`
	GivenUpAt  time.Time `json:"given_up_at"`
}

// DeadLetterQuery selects dead letters. Zero members select all.
type DeadLetterQuery struct {
	IDs      []string   `json:"ids,omitempty"`
	DeviceID string     `json:"device_id,omitempty"`
	Type     EventType  `json:"type,omitempty"`
	After    *time.Time `json:"after,omitempty"`  // event_time at or after
	Before   *time.Time `json:"before,omitempty"` // event_time before
	Skip     int        `json:"skip,omitempty"`
	Limit    int        `json:"limit,omitempty"` // of a list
}

// DeadLetterPage is a part of a list of dead letters, oldest event first.
type DeadLetterPage struct {
	DeadLetters []DeadLetter `json:"dead_letters"`
	Total       int          `json:"total"` // that the query selects
}

// RedriveResult says what became of dead letters that were to be delivered again.
type RedriveResult struct {
	Redriven int `json:"redriven"` // are under way; each is listed until it is delivered
	Gone     int `json:"gone"`     // events that the log no longer has: they can only be deleted
}
