package webhook

import (
	"encoding/json"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Health is the health_status of an integration in REST: healthy if no try has failed since the last success.
func Health(st messages.DeliveryStatus) json.RawMessage {
	if st.FailedAttempts == 0 {
		return json.RawMessage(`{"healthy":{}}`)
	}
	type unhealthy struct {
		FailedAttempts           v3.Uint64        `json:"failed_attempts"`
		LastFailedAttemptAt      *time.Time       `json:"last_failed_attempt_at,omitempty"`
		LastFailedAttemptDetails *v3.ErrorDetails `json:"last_failed_attempt_details,omitempty"`
	}
	details := &v3.ErrorDetails{Namespace: "pkg/lorikeet/webhook", Name: "request", MessageFormat: st.LastError, Code: 14}
	if st.LastStatus != 0 {
		details.Name, details.Attributes = "response", map[string]any{"status_code": st.LastStatus}
	}
	out, err := json.Marshal(map[string]unhealthy{"unhealthy": {
		FailedAttempts: v3.Uint64(st.FailedAttempts), LastFailedAttemptAt: st.LastFailedAt, LastFailedAttemptDetails: details,
	}})
	if err != nil { // a year past 9999
		return json.RawMessage(`{"unhealthy":{}}`)
	}
	return out
}
