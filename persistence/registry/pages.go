package registry

import (
	"context"
	"log/slog"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// DevicePage gives up to limit devices of an application after the first skip of them, sorted by id, and how many there are in all. Only those of the
// page are decoded. A damaged one is counted, logged and left out; application_not_found.
func (r *Registry) DevicePage(ctx context.Context, applicationID string, skip, limit int) (page []v3.EndDevice, total int, err error) {
	if err := r.need(ctx, applicationID); err != nil {
		return nil, 0, err
	}
	err = r.pages(ctx, messages.KindDevice, applicationID+".", func(docs []messages.Document) error {
		for _, doc := range docs {
			if at := total - skip; at >= 0 && at < limit {
				device, err := decode[v3.EndDevice](doc)
				if err != nil {
					r.log.LogAttrs(ctx, slog.LevelError, "document left out of a list", slog.Any("err", err))
				} else {
					page = append(page, device)
				}
			}
			total++
		}
		return nil
	})
	return page, total, err
}
