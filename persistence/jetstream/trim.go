package jetstream

import "context"

func (s *Store) keepTrimming(ctx context.Context) { <-ctx.Done() }
