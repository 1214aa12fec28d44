package registry

import (
	"context"
	"errors"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func gatewayNotFound(id string) error {
	return messages.NotFound("gateway_not_found", "radio gateway %q not found", shorten(id))
}

func gatewayEUITaken(eui messages.EUI64) error {
	return taken("gateway_eui_taken", "a radio gateway with EUI %s is registered already: check the EUI, or delete the other one", eui)
}

// Gateways gives all radio gateways, sorted by id.
func (r *Registry) Gateways(ctx context.Context) ([]v3.Gateway, error) {
	return list[v3.Gateway](ctx, r, messages.KindRadioGateway, "")
}

// Gateway gives one; gateway_not_found.
func (r *Registry) Gateway(ctx context.Context, id string) (v3.Gateway, error) {
	return get[v3.Gateway](ctx, r, messages.KindRadioGateway, id, gatewayNotFound(id))
}

// RadioGateway finds a radio gateway by its EUI; location is nil if none is known. It asks memory only.
func (r *Registry) RadioGateway(eui messages.EUI64) (id string, location *messages.Location, ok bool) {
	r.index.mutex.RLock()
	defer r.index.mutex.RUnlock()
	g, ok := r.index.gateways[eui]
	return g.id, g.location, ok // the Location is never written to: an update puts a new one
}

// CreateGateway gives what was stored; id_taken, gateway_eui_taken.
func (r *Registry) CreateGateway(ctx context.Context, gateway v3.Gateway) (v3.Gateway, error) {
	id := gateway.IDs.GatewayID
	if err := messages.ValidateID(id); err != nil {
		return v3.Gateway{}, err
	}
	return r.editGateway(id, creating(gateway, taken("id_taken", "there is a radio gateway %q already: choose another id", id))).run(ctx, r)
}

// UpdateGateway changes one by compare-and-set: change may run more than once. The id and created_at stay, the EUI may be
// replaced (new hardware at the same place) but not removed; gateway_not_found, gateway_eui_taken.
func (r *Registry) UpdateGateway(ctx context.Context, id string, change func(*v3.Gateway) error) (v3.Gateway, error) {
	return r.editGateway(id, updating(change, gatewayNotFound(id))).run(ctx, r)
}

func (r *Registry) editGateway(id string, change func(bool, *v3.Gateway) error) edit[v3.Gateway] {
	return edit[v3.Gateway]{
		place:  place{kind: messages.KindRadioGateway, id: id},
		change: change,
		settle: func(old v3.Gateway, v *v3.Gateway) error {
			if err := keepID("ids.gateway_id", &v.IDs.GatewayID, id); err != nil {
				return err
			}
			if v.IDs.EUI == nil {
				v.IDs.EUI = old.IDs.EUI
			}
			v.CreatedAt, v.UpdatedAt = r.stamps(old.CreatedAt)
			return validateGateway(v)
		},
		also: func(ctx context.Context, old, v v3.Gateway) (also []messages.Write, err error) {
			if v.IDs.EUI == nil {
				return nil, nil
			}
			eui := *v.IDs.EUI
			moved := old.IDs.EUI != nil && *old.IDs.EUI != eui
			if old.IDs.EUI == nil || moved {
				claim, err := r.claim(ctx, messages.KindGatewayEUI, eui.String(), id, messages.KindRadioGateway, gatewayEUITaken(eui))
				if err != nil {
					return nil, err
				}
				also = append(also, claim)
			}
			if moved {
				also = append(also, messages.Write{Kind: messages.KindGatewayEUI, ID: old.IDs.EUI.String()})
			}
			return also, nil
		},
	}
}

// DeleteGateway deletes one; gateway_not_found.
func (r *Registry) DeleteGateway(ctx context.Context, id string) error {
	_, err := retry(ctx, func() (struct{}, error) {
		doc, err := r.store.GetDocument(ctx, messages.KindRadioGateway, id)
		switch {
		case errors.Is(err, messages.ErrNotFound):
			return struct{}{}, gatewayNotFound(id)
		case err != nil:
			return struct{}{}, err
		}
		writes := []messages.Write{{Kind: messages.KindRadioGateway, ID: id, Expect: true, Revision: doc.Revision}}
		if g, err := decode[v3.Gateway](doc); err == nil && g.IDs.EUI != nil {
			writes = append(writes, messages.Write{Kind: messages.KindGatewayEUI, ID: g.IDs.EUI.String()})
		}
		return struct{}{}, r.write(ctx, place{kind: messages.KindRadioGateway, id: id}, writes)
	})
	return err
}

// RegisterSeenGateway makes sure that a radio gateway with the EUI is registered, if need be as "eui-<hex>" with auto_registered
// set. A frame can claim any EUI, so the number of those is limited: too_many_seen_gateways.
func (r *Registry) RegisterSeenGateway(ctx context.Context, eui messages.EUI64) error {
	if _, _, ok := r.RadioGateway(eui); ok {
		return nil
	}
	r.index.mutex.RLock()
	seen := r.index.seen
	r.index.mutex.RUnlock()
	if seen >= r.maxSeen {
		return messages.Errorf(messages.CodeExhausted, "too_many_seen_gateways",
			"%d radio gateways were registered because they were seen: delete those you don't know, or register %s yourself", seen, eui)
	}
	id := "eui-" + strings.ToLower(eui.String())
	_, err := r.editGateway(id, func(found bool, g *v3.Gateway) error {
		if found && g.IDs.EUI != nil {
			if *g.IDs.EUI == eui {
				return errSeen
			}
			return taken("id_taken", "the id %s belongs to the radio gateway with EUI %s: register %s under another id", id, g.IDs.EUI, eui)
		}
		g.IDs.EUI, g.AutoRegistered = &eui, g.AutoRegistered || !found
		return nil
	}).run(ctx, r)
	if err == errSeen || errors.Is(err, gatewayEUITaken(eui)) { // someone else was faster
		return r.catchUp(ctx)
	}
	return err
}

var errSeen = errors.New("registered already")

func indexed(g v3.Gateway) radioGateway {
	entry := radioGateway{id: g.IDs.GatewayID, seen: g.AutoRegistered}
	for _, antenna := range g.Antennas {
		if l := antenna.Location; l != nil {
			entry.location = &messages.Location{Latitude: l.Latitude, Longitude: l.Longitude, Altitude: l.Altitude, Accuracy: l.Accuracy, Source: l.Source}
			if entry.location.Source == "" {
				entry.location.Source = "SOURCE_REGISTRY"
			}
			break
		}
	}
	return entry
}
