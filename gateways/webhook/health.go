package webhook

import (
	"encoding/json"
	"time"

	v3 "lorikeet/messages/v3"
)

// Health is the health_status of a webhook in REST: healthy if no attempt has failed since the last success.
func Health(failedAttempts uint64, lastFailedAt time.Time, lastError string) json.RawMessage {
	if failedAttempts == 0 {
		return json.RawMessage(`{"healthy":{}}`)
	}
	type unhealthy struct {
		FailedAttempts           v3.Uint64        `json:"failed_attempts"`
		LastFailedAttemptAt      time.Time        `json:"last_failed_attempt_at"`
		LastFailedAttemptDetails *v3.ErrorDetails `json:"last_failed_attempt_details,omitempty"`
	}
	out, err := json.Marshal(map[string]unhealthy{"unhealthy": {
		FailedAttempts: v3.Uint64(failedAttempts), LastFailedAttemptAt: lastFailedAt.UTC(),
		LastFailedAttemptDetails: &v3.ErrorDetails{Namespace: "lorikeet/webhook", Name: "request", MessageFormat: lastError, Code: 14},
	}})
	if err != nil { // a year past 9999
		return json.RawMessage(`{"unhealthy":{}}`)
	}
	return out
}
