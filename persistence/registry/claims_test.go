package registry

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func same(*v3.EndDevice) error { return nil }

func TestADeviceMovesInOneStep(t *testing.T) {
	onEachFleet(t, func(t *testing.T, c fleet) {
		ctx := t.Context()
		store := c.node(t)
		nodes := openNodes(t, c, 2)
		a, b := nodes[0], nodes[1]
		must(t)(a.CreateApplication(ctx, newApplication("factory")))
		must(t)(a.CreateApplication(ctx, newApplication("customer")))
		created, err := a.CreateDevice(ctx, newDevice("factory", "dev-1", 7))
		must(t)(created, err)
		if err := b.follow.settle(ctx); err != nil {
			t.Fatal(err)
		}
		changes := recorded(b)
		moved, err := a.MoveDevice(ctx, devID("factory", "dev-1"), devID("customer", "meter"), func(d *v3.EndDevice) error { d.Name = "mine"; return nil })
		if err != nil || moved.IDs.DeviceID != "meter" || moved.Name != "mine" || !moved.CreatedAt.Equal(*created.CreatedAt) || moved.ClaimedFrom == nil || moved.ClaimedFrom.DeviceID != "dev-1" {
			t.Fatalf("got %+v, %v", moved, err)
		}
		_, err = a.Device(ctx, devID("factory", "dev-1"))
		wantError(t, err, "end_device_not_found")
		checkNodes(t, store, nodes...)
		for i, r := range nodes {
			if id, ok := r.DeviceByEUI(*eui(1), *eui(7)); !ok || id != devID("customer", "meter") {
				t.Errorf("node %d: the EUIs lead to %v", i, id)
			}
		}
		if err := b.follow.settle(ctx); err != nil {
			t.Fatal(err)
		}
		want := []messages.Change{{Kind: messages.KindDevice, ID: "customer.meter"}, {Kind: messages.KindDevice, ID: "factory.dev-1", Deleted: true}}
		got := *changes // in either order: both are one write
		slices.SortFunc(got, func(a, b messages.Change) int { return strings.Compare(a.ID, b.ID) })
		if !slices.Equal(got, want) {
			t.Errorf("the other node heard of %v", got)
		}
		_, err = b.MoveDevice(ctx, devID("customer", "meter"), devID("customer", "other"), same)
		wantError(t, err, "same_application")
		_, err = b.MoveDevice(ctx, devID("factory", "dev-1"), devID("customer", "other"), same)
		wantError(t, err, "end_device_not_found")
		_, err = b.MoveDevice(ctx, devID("customer", "meter"), devID("nowhere", "meter"), same)
		wantError(t, err, "application_not_found")
		must(t)(b.CreateDevice(ctx, newDevice("factory", "taken", 8)))
		_, err = b.MoveDevice(ctx, devID("customer", "meter"), devID("factory", "taken"), same)
		wantError(t, err, "id_taken")
		back, err := b.MoveDevice(ctx, devID("customer", "meter"), devID("factory", "dev-1"), same)
		if err != nil || back.ClaimedFrom != nil {
			t.Errorf("back: %+v, %v", back.ClaimedFrom, err)
		}
		checkNodes(t, store, nodes...)
	})
}

func TestOneOfTwoMovesWins(t *testing.T) {
	t.Parallel()
	r, _ := withApplication(t)
	for _, app := range []string{"app-a", "app-b"} {
		must(t)(r.CreateApplication(t.Context(), newApplication(app)))
	}
	must(t)(r.CreateDevice(t.Context(), newDevice("my-app", "dev-1", 7)))
	var wg sync.WaitGroup
	var errs [2]error
	for i, app := range []string{"app-a", "app-b"} {
		wg.Go(func() { _, errs[i] = r.MoveDevice(t.Context(), devID("my-app", "dev-1"), devID(app, "dev-1"), same) })
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("got %v and %v", errs[0], errs[1])
	}
	wantError(t, errors.Join(errs[:]...), "end_device_not_found")
}

func TestClaimingIsAllowedByTheOwner(t *testing.T) {
	t.Parallel()
	r, _ := withApplication(t)
	for _, allowed := range []bool{true, false} {
		if err := r.AllowClaiming(t.Context(), "my-app", allowed); err != nil {
			t.Fatal(err)
		}
		must(t)(r.UpdateApplication(t.Context(), "my-app", func(a *v3.Application) error { a.Name = "n"; return nil })) // leaves it
		if got, err := r.ClaimingAllowed(t.Context(), "my-app"); err != nil || got != allowed {
			t.Errorf("got %t, %v", got, err)
		}
	}
	wantError(t, r.AllowClaiming(t.Context(), "other", true), "application_not_found")
	_, err := r.ClaimingAllowed(t.Context(), "other")
	wantError(t, err, "application_not_found")
	_, err = r.MoveDevice(t.Context(), messages.DeviceID{}, devID("My-App", "x"), same)
	wantError(t, err, "invalid_id")
}
