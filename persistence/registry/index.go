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
	deleting bool // marked by a node that deletes it; guarded by the index, not by the lock
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
	gatewayEUIs  map[string]messages.EUI64 // by id: where the radio gateway is in gateways
	seen         int                       // gateways that are seen
	keys         map[string]keyRecord
}

func newIndex() index {
	return index{
		applications: map[string]*application{}, devices: map[euiPair]string{}, gateways: map[messages.EUI64]radioGateway{},
		gatewayEUIs: map[string]messages.EUI64{}, keys: map[string]keyRecord{},
	}
}

// application gives the lock of an application, nil if there is none, and whether the application may be written in.
func (x *index) application(id string) (a *application, writable bool) {
	x.mutex.RLock()
	defer x.mutex.RUnlock()
	a = x.applications[id]
	return a, a != nil && !a.deleting
}

// put takes over a document, or its deletion if it has no Value. A damaged one is left out, with what was there before, and put is false.
func (x *index) put(doc messages.Document) bool {
	switch doc.Kind {
	case messages.KindApplication:
		x.putApplication(doc)
		return true
	case messages.KindDeviceEUI:
		return x.putDevice(doc)
	case messages.KindRadioGateway:
		return x.putGateway(doc)
	case messages.KindAPIKey:
		return x.putKey(doc)
	}
	return true
}

func (x *index) putApplication(doc messages.Document) {
	if doc.Value == nil {
		delete(x.applications, doc.ID)
		return
	}
	a := x.applications[doc.ID]
	if a == nil {
		a = &application{}
		x.applications[doc.ID] = a
	}
	record, err := decode[applicationRecord](doc) // a damaged one exists too: only so can it be deleted
	a.deleting = err == nil && record.Deleting
}

func (x *index) putDevice(doc messages.Document) bool {
	pair, err := parsePair(doc.ID)
	if err != nil {
		return doc.Value == nil
	}
	if _, err := messages.ParseUID(string(doc.Value)); err != nil {
		delete(x.devices, pair)
		return doc.Value == nil
	}
	x.devices[pair] = string(doc.Value)
	return true
}

func (x *index) putGateway(doc messages.Document) bool {
	if eui, ok := x.gatewayEUIs[doc.ID]; ok {
		x.dropGateway(eui, doc.ID)
	}
	if doc.Value == nil {
		return true
	}
	g, err := decode[v3.Gateway](doc)
	if err != nil || g.IDs.EUI == nil {
		return err == nil
	}
	eui, entry := *g.IDs.EUI, indexed(g)
	entry.id = doc.ID
	x.dropGateway(eui, x.gateways[eui].id)
	if entry.seen {
		x.seen++
	}
	x.gateways[eui], x.gatewayEUIs[doc.ID] = entry, eui
	return true
}

func (x *index) dropGateway(eui messages.EUI64, id string) {
	delete(x.gatewayEUIs, id)
	if g, ok := x.gateways[eui]; ok && g.id == id { // not if the EUI belongs to another by now
		if g.seen {
			x.seen--
		}
		delete(x.gateways, eui)
	}
}

func (x *index) putKey(doc messages.Document) bool {
	delete(x.keys, doc.ID)
	if doc.Value == nil {
		return true
	}
	k, err := decode[keyRecord](doc)
	if err != nil || len(k.Hash) != hashSize {
		return false
	}
	x.keys[doc.ID] = k
	return true
}

// apply brings memory up to date with documents that are durable; those without Value are deleted. It gives what watchers are to hear of.
func (r *Registry) apply(docs ...messages.Document) []messages.Change {
	changes := make([]messages.Change, 0, len(docs))
	r.index.mutex.Lock()
	defer r.index.mutex.Unlock()
	for _, doc := range docs {
		if !r.index.put(doc) {
			r.log.LogAttrs(context.Background(), slog.LevelError, "damaged document ignored", slog.String("kind", string(doc.Kind)), slog.String("id", doc.ID))
		}
		switch doc.Kind {
		case messages.KindDeviceEUI, messages.KindGatewayEUI, messages.KindServer, messages.KindDeadLetter, messages.KindDelivery: // nothing that people configure
		default:
			changes = append(changes, messages.Change{Kind: doc.Kind, ID: doc.ID, Deleted: doc.Value == nil})
		}
	}
	return changes
}

// loadIndex reads what is held in memory from a store that only this node writes.
func (r *Registry) loadIndex(ctx context.Context) error {
	for _, kind := range []messages.Kind{messages.KindApplication, messages.KindDeviceEUI, messages.KindRadioGateway, messages.KindAPIKey} {
		if err := r.store.ScanDocuments(ctx, kind, func(doc messages.Document) error { r.apply(doc); return nil }); err != nil {
			return fmt.Errorf("scan %s: %w", kind, err)
		}
	}
	return nil
}
