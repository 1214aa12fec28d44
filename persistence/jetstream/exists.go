package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

// Exists says whether there is a store in the namespace, without making one.
func Exists(ctx context.Context, nc *nats.Conn, domain, namespace string) (bool, error) {
	j, _, err := Domain(nc, domain)
	if err != nil {
		return false, fmt.Errorf("look for the store: %w", err)
	}
	_, err = j.Stream(ctx, names{upper: strings.ToUpper(namespace)}.registry())
	switch {
	case errors.Is(err, js.ErrStreamNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for the store: %w", err)
	}
	return true, nil
}
