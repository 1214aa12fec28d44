package registry

import (
	"time"

	v3 "lorikeet/messages/v3"
)

// shortestRetention leaves integrations that begin now, and the pages of a reader, time to come.
const shortestRetention = time.Minute

func validateRetention(r *v3.Retention) error {
	if r == nil {
		return nil
	}
	if age := time.Duration(r.MaxAge); age != 0 && age < shortestRetention {
		return refuse("retention.max_age", "%s is too short: use 60s or more, or leave it out for as long as the server keeps events", age)
	}
	return nil
}
