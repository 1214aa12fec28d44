package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lorikeet/messages"
)

// IssueDevEUI gives the next EUI of a block, which are those whose first bits are those of first. None is given twice, by any node;
// dev_eui_block_exhausted.
func (r *Registry) IssueDevEUI(ctx context.Context, first messages.EUI64, bits int) (messages.EUI64, error) {
	id := fmt.Sprintf("dev-euis.%s.%d", first, bits)
	return retry(ctx, func() (eui messages.EUI64, err error) {
		doc, err := r.store.GetDocument(ctx, messages.KindServer, id)
		if err != nil && !errors.Is(err, messages.ErrNotFound) {
			return eui, fmt.Errorf("read %s: %w", id, err)
		}
		given := uint64(0)
		if doc.Value != nil {
			count, _, _ := strings.Cut(string(doc.Value), " ")
			if given, err = strconv.ParseUint(count, 10, 64); err != nil {
				return eui, fmt.Errorf("the stored document %s is damaged: restore a backup, or configure another block", id)
			}
		}
		if bits > 0 && given>>(64-bits) > 0 {
			return eui, messages.Errorf(messages.CodeExhausted, "dev_eui_block_exhausted", "the block of DevEUIs %s/%d is used up: configure another one", first, bits)
		}
		var writer [8]byte // tells this write from that of another node, if the answer of the store gets lost
		if err := r.random(writer[:]); err != nil {
			return eui, err
		}
		next := messages.Write{Kind: messages.KindServer, ID: id, Value: fmt.Appendf(nil, "%d %x", given+1, writer), Expect: true, Revision: doc.Revision}
		if err := r.put(ctx, []messages.Write{next}); err != nil {
			return eui, fmt.Errorf("write %s: %w", id, err)
		}
		binary.BigEndian.PutUint64(eui[:], binary.BigEndian.Uint64(first[:])|given)
		return eui, nil
	})
}
