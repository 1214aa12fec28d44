package registry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// euiPair is JoinEUI and DevEUI.
type euiPair struct{ join, dev messages.EUI64 }

func (p euiPair) id() string { return p.join.String() + "." + p.dev.String() }

func parsePair(id string) (p euiPair, err error) {
	if len(id) != 33 || id[16] != '.' {
		return p, fmt.Errorf("EUI pair %q", id)
	}
	if p.join, err = messages.ParseEUI64(id[:16]); err != nil {
		return p, err
	}
	p.dev, err = messages.ParseEUI64(id[17:])
	return p, err
}

// application is the lock of one application: writers inside of it share it, its deletion has it alone.
type application struct {
	sync.RWMutex
	deleted bool
}

type radioGateway struct {
	id       string
	location *messages.Location
	seen     bool // created by RegisterSeenGateway
}

// index is what the hot paths read. Its lock is never held during I/O.
type index struct {
	mutex        sync.RWMutex
	applications map[string]*application
	devices      map[euiPair]string // UID: one string is smaller than a DeviceID
	gateways     map[messages.EUI64]radioGateway
	seen         int // gateways that are seen
	keys         map[string]keyRecord
}

func newIndex() index {
	return index{applications: map[string]*application{}, devices: map[euiPair]string{}, gateways: map[messages.EUI64]radioGateway{}, keys: map[string]keyRecord{}}
}

func (x *index) change(apply func()) {
	if apply == nil {
		return
	}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	apply()
}

func (x *index) application(id string) *application {
	x.mutex.RLock()
	defer x.mutex.RUnlock()
	return x.applications[id]
}

func (x *index) putGateway(eui messages.EUI64, g radioGateway) {
	x.dropGateway(eui, x.gateways[eui].id)
	if g.seen {
		x.seen++
	}
	x.gateways[eui] = g
}

// dropGateway and dropDevice leave alone what belongs to another by now.
func (x *index) dropGateway(eui messages.EUI64, id string) {
	if g, ok := x.gateways[eui]; ok && g.id == id {
		if g.seen {
			x.seen--
		}
		delete(x.gateways, eui)
	}
}

func (x *index) dropDevice(p euiPair, uid string) {
	if x.devices[p] == uid {
		delete(x.devices, p)
	}
}

func (r *Registry) loadIndex(ctx context.Context) error {
	damaged := func(doc messages.Document) {
		r.log.LogAttrs(ctx, slog.LevelError, "damaged document ignored", slog.String("kind", string(doc.Kind)), slog.String("id", doc.ID))
	}
	x := &r.index
	for kind, load := range map[messages.Kind]func(messages.Document){
		messages.KindApplication: func(doc messages.Document) { x.applications[doc.ID] = &application{} },
		messages.KindDeviceEUI: func(doc messages.Document) {
			pair, err := parsePair(doc.ID)
			if _, uidErr := messages.ParseUID(string(doc.Value)); err != nil || uidErr != nil {
				damaged(doc)
				return
			}
			x.devices[pair] = string(doc.Value)
		},
		messages.KindRadioGateway: func(doc messages.Document) {
			g, err := decode[v3.Gateway](doc)
			if err != nil {
				damaged(doc)
				return
			}
			if g.IDs.EUI != nil {
				x.putGateway(*g.IDs.EUI, indexed(g))
			}
		},
		messages.KindAPIKey: func(doc messages.Document) {
			k, err := decode[keyRecord](doc)
			if err != nil || len(k.Hash) != hashSize {
				damaged(doc)
				return
			}
			x.keys[doc.ID] = k
		},
	} {
		if err := r.store.ScanDocuments(ctx, kind, func(doc messages.Document) error { load(doc); return nil }); err != nil {
			return fmt.Errorf("scan %s: %w", kind, err)
		}
	}
	return nil
}
