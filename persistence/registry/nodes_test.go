package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/memory"
)

// openNodes gives n registries on one store.
func openNodes(t *testing.T, c fleet, n int) []*Registry {
	t.Helper()
	nodes := make([]*Registry, n)
	for i := range nodes {
		nodes[i] = open(t, c.node(t))
		t.Cleanup(nodes[i].Close)
	}
	return nodes
}

// checkNodes compares the memory of all nodes with what is stored, after they have caught up.
func checkNodes(t *testing.T, store Store, nodes ...*Registry) {
	t.Helper()
	for _, r := range nodes {
		if err := r.catchUp(t.Context()); err != nil {
			t.Error(err)
		}
		checkMemory(t, r, store)
	}
}

func TestEachNodeKnowsWhatAnotherWrites(t *testing.T) {
	onEachFleet(t, func(t *testing.T, c fleet) {
		ctx := t.Context()
		store := c.node(t)
		nodes := openNodes(t, c, 3)
		a, b := nodes[0], nodes[1]
		changes := recorded(b)
		must(t)(a.CreateApplication(ctx, newApplication("my-app")))
		must(t)(b.CreateDevice(ctx, newDevice("my-app", "dev-1", 7))) // in the application that the other made just now
		must(t)(a.CreateGateway(ctx, newGateway("gtw", 9)))
		must(t)(a.UpdateGateway(ctx, "gtw", func(g *v3.Gateway) error { g.IDs.EUI = eui(10); return nil }))
		must(t)(a.SetWebhook(ctx, "my-app", "my-hook", func(w *v3.Webhook) error { w.BaseURL = "https://example.com"; return nil }))
		key, err := a.CreateAPIKey(ctx, "my-app", trafficKey)
		must(t)(key, err)
		for i, r := range nodes {
			if access, err := r.Authorize(ctx, key.Key); err != nil || access.ApplicationID != "my-app" {
				t.Errorf("node %d: %+v, %v", i, access, err)
			}
			if list, err := r.APIKeys(ctx, "my-app"); err != nil || len(list) != 1 {
				t.Errorf("node %d: keys %+v, %v", i, list, err)
			}
		}
		checkNodes(t, store, nodes...)
		if id, _, ok := nodes[2].RadioGateway(*eui(10)); !ok || id != "gtw" {
			t.Errorf("radio gateway: %v %v", id, ok)
		}
		if err := errors.Join(a.DeleteAPIKey(ctx, "my-app", key.ID), a.DeleteDevice(ctx, devID("my-app", "dev-1"))); err != nil {
			t.Fatal(err)
		}
		for _, r := range nodes {
			if err := r.catchUp(ctx); err != nil { // another node hears of it a moment later
				t.Error(err)
			}
			wantError(t, second(r.Authorize(ctx, key.Key)), "unauthenticated")
			if id, ok := r.DeviceByEUI(*eui(1), *eui(7)); ok {
				t.Errorf("deleted device found: %v", id)
			}
		}
		if err := b.DeleteApplication(ctx, "my-app"); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(*changes, messages.Change{Kind: messages.KindApplication, ID: "my-app", Deleted: true}) || !slices.Contains(*changes, messages.Change{Kind: messages.KindWebhook, ID: "my-app.my-hook", Deleted: true}) {
			t.Errorf("deletion is not announced: %+v", *changes)
		}
		wantError(t, a.DeleteApplication(ctx, "my-app"), "application_not_found")
		checkNodes(t, store, nodes...)
		if diff := cmp.Diff([]string{"gtw gtw", "gtweui 000000000000000A"}, stored(t, store)); diff != "" {
			t.Error(diff)
		}
	})
}

// gate holds up what a node hears of the store. While it is shut the node believes that it has caught up.
type gate struct {
	*memory.Node
	mu   sync.Mutex
	held []func()
	shut bool
}

func (g *gate) FollowDocuments(ctx context.Context, fn func(messages.Document, bool)) error {
	return g.Node.FollowDocuments(ctx, func(d messages.Document, deleted bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.shut {
			g.held = append(g.held, func() { fn(d, deleted) })
			return
		}
		fn(d, deleted)
	})
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	if !shut {
		for _, fn := range g.held {
			fn()
		}
		g.held = nil
	}
}

// A node that lags behind makes nothing in an application that another has deleted or is deleting.
func TestNodeThatLagsBehindLeavesNothingInADeletedApplication(t *testing.T) {
	ctx := t.Context()
	store := memory.New()
	a := openNodes(t, onMemory(store), 1)[0]
	lagging := &gate{Node: store.Node()}
	b := open(t, lagging)
	t.Cleanup(b.Close)
	must(t)(a.CreateApplication(ctx, newApplication("my-app")))
	must(t)(a.CreateDevice(ctx, newDevice("my-app", "dev-0", 100)))
	if err := b.catchUp(ctx); err != nil {
		t.Fatal(err)
	}
	attempts := func() {
		t.Helper()
		wantError(t, second(b.CreateDevice(ctx, newDevice("my-app", "dev-1", 7))), "application_not_found")
		wantError(t, second(b.SetLink(ctx, "my-app", func(*v3.Link) error { return nil })), "application_not_found")
		wantError(t, second(b.CreateAPIKey(ctx, "my-app", trafficKey)), "application_not_found")
		wantError(t, second(b.SetWebhook(ctx, "my-app", "my-hook", func(w *v3.Webhook) error { w.BaseURL = "https://example.com"; return nil })), "application_not_found")
		wantError(t, second(b.UpdateApplication(ctx, "my-app", func(*v3.Application) error { return nil })), "application_not_found")
	}
	lagging.set(true)
	if err := a.markDeleting(ctx, "my-app"); err != nil { // the other node stops half-way
		t.Fatal(err)
	}
	attempts()
	if diff := cmp.Diff([]string{"app my-app", "dev my-app.dev-0", "eui " + euiPair{*eui(1), *eui(100)}.id()}, stored(t, store)); diff != "" {
		t.Error(diff)
	}
	lagging.set(false)
	attempts()
	lagging.set(true)
	if err := a.DeleteApplication(ctx, "my-app"); err != nil {
		t.Fatal(err)
	}
	attempts()
	lagging.set(false)
	if got := stored(t, store); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	checkNodes(t, store, a, b)
}

func TestApplicationIsDeletedOnOneNodeWhileOthersFillIt(t *testing.T) {
	onEachFleet(t, func(t *testing.T, c fleet) {
		ctx := t.Context()
		for range c.rounds {
			c.fresh(t)
			store := c.node(t)
			nodes := openNodes(t, c, 3)
			must(t)(nodes[0].CreateApplication(ctx, newApplication("my-app")))
			must(t)(nodes[0].CreateDevice(ctx, newDevice("my-app", "dev-0", 1)))
			var wg sync.WaitGroup
			var started sync.WaitGroup
			started.Add(4)
			for i := range 4 {
				wg.Go(func() {
					for n := range 25 {
						r := nodes[1+i%2]
						_, err := r.CreateDevice(ctx, newDevice("my-app", fmt.Sprintf("dev-%d-%d", i, n), uint64(100*(i+1)+n)))
						if n == 0 {
							started.Done()
						}
						if err == nil && n%2 == 0 {
							_, err = r.CreateAPIKey(ctx, "my-app", trafficKey)
						}
						if err != nil {
							wantError(t, err, "application_not_found")
						}
					}
				})
			}
			wg.Go(func() {
				started.Wait()
				if err := nodes[0].DeleteApplication(ctx, "my-app"); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			if got := stored(t, store); len(got) != 0 {
				t.Fatalf("left behind: %v", got)
			}
			checkNodes(t, store, nodes...)
		}
	})
}

func TestDamagedApplicationIsDeletedOnAnyNode(t *testing.T) {
	ctx := t.Context()
	store := memory.New()
	nodes := openNodes(t, onMemory(store), 2)
	must(t)(nodes[0].CreateApplication(ctx, newApplication("my-app")))
	must(t)(nodes[0].CreateDevice(ctx, newDevice("my-app", "dev-1", 7)))
	if err := store.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindApplication, ID: "my-app", Value: []byte("{")}}); err != nil {
		t.Fatal(err)
	}
	if err := nodes[1].DeleteApplication(ctx, "my-app"); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, store); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	checkNodes(t, store, nodes...)
}

// A deletion that two nodes do at once (a client has asked again) ends with one of them, and what is made afterwards stays.
func TestApplicationIsDeletedByTwoNodesAndMadeAgain(t *testing.T) {
	onEachFleet(t, func(t *testing.T, c fleet) {
		ctx := t.Context()
		for range c.rounds {
			c.fresh(t)
			store := c.node(t)
			nodes := openNodes(t, c, 2)
			must(t)(nodes[0].CreateApplication(ctx, newApplication("my-app")))
			for i := range uint64(20) {
				must(t)(nodes[0].CreateDevice(ctx, newDevice("my-app", fmt.Sprintf("dev-%d", i), i+1)))
			}
			var done atomic.Int32
			made := make([]error, len(nodes))
			var wg sync.WaitGroup
			for i, r := range nodes {
				wg.Go(func() {
					if err := r.DeleteApplication(ctx, "my-app"); err != nil {
						wantError(t, err, "application_not_found")
						return
					}
					done.Add(1)
					made[i] = errors.Join(second(r.CreateApplication(ctx, newApplication("my-app"))), second(r.CreateDevice(ctx, newDevice("my-app", "new", 5))))
				})
			}
			wg.Wait()
			switch got := stored(t, store); done.Load() {
			case 0:
				t.Error("nobody has deleted it")
			case 1: // else the second one began after the first was done, and has deleted what was new
				if err := errors.Join(made...); err != nil || len(got) != 3 {
					t.Errorf("after a deletion and a new beginning: %v, %v", got, err)
				}
			}
			checkNodes(t, store, nodes...)
		}
	})
}

func TestOneNodeOfManyGetsAnEUIPair(t *testing.T) {
	onEachFleet(t, func(t *testing.T, c fleet) {
		ctx := t.Context()
		store := c.node(t)
		nodes := openNodes(t, c, 3)
		must(t)(nodes[0].CreateApplication(ctx, newApplication("my-app")))
		for n := range uint64(20) {
			var won atomic.Int32
			var wg sync.WaitGroup
			for i, r := range nodes {
				wg.Go(func() {
					if _, err := r.CreateDevice(ctx, newDevice("my-app", fmt.Sprintf("dev-%d-%d", n, i), n+1)); err == nil {
						won.Add(1)
					} else {
						wantError(t, err, "end_device_euis_taken")
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 {
				t.Errorf("%d devices have one pair of EUIs", won.Load())
			}
		}
		checkNodes(t, store, nodes...)
	})
}

func TestOneRadioGatewayIsSeenByTwoNodes(t *testing.T) {
	onEachFleet(t, func(t *testing.T, c fleet) {
		ctx := t.Context()
		store := c.node(t)
		nodes := openNodes(t, c, 2)
		for n := range uint64(20) {
			var wg sync.WaitGroup
			for _, r := range nodes {
				wg.Go(func() {
					if err := r.RegisterSeenGateway(ctx, *eui(n + 1)); err != nil {
						t.Error(err)
					}
					if _, _, ok := r.RadioGateway(*eui(n + 1)); !ok {
						t.Error("a radio gateway that is registered is not known")
					}
				})
			}
			wg.Wait()
		}
		if list, err := nodes[0].Gateways(ctx); err != nil || len(list) != 20 || !list[0].AutoRegistered {
			t.Errorf("%d radio gateways, %v", len(list), err)
		}
		checkNodes(t, store, nodes...)
	})
}

func TestNodesThatStartAtOnceHaveOnePepperAndOneAdminKey(t *testing.T) {
	onEachFleet(t, func(t *testing.T, c fleet) {
		ctx := t.Context()
		for range c.rounds {
			c.fresh(t)
			nodes, created := make([]*Registry, 3), make([]string, 3)
			var wg sync.WaitGroup
			for i := range nodes {
				wg.Go(func() {
					r, err := Open(ctx, c.node(t), Config{})
					if err != nil {
						t.Error(err)
						return
					}
					t.Cleanup(r.Close)
					nodes[i] = r
					if created[i], err = r.EnsureAdminKey(ctx, ""); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			all := strings.Join(created, "")
			if strings.Count(all, keyPrefix) != 1 {
				t.Fatalf("%d admin keys were made", strings.Count(all, keyPrefix))
			}
			for _, r := range nodes {
				if access, err := r.Authorize(ctx, all); err != nil || !access.Admin {
					t.Fatalf("the admin key gives %+v, %v", access, err)
				}
			}
			for _, r := range nodes {
				wg.Go(func() {
					if _, err := r.EnsureAdminKey(ctx, "the preset admin key"); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, r := range nodes {
				if access, err := r.Authorize(ctx, "the preset admin key"); err != nil || !access.Admin {
					t.Fatalf("the preset key gives %+v, %v", access, err)
				}
			}
		}
	})
}

func TestConcurrentUpdatesOnAllNodesAreKept(t *testing.T) {
	onEachFleet(t, func(t *testing.T, c fleet) {
		ctx := t.Context()
		nodes := openNodes(t, c, 3)
		must(t)(nodes[0].CreateApplication(ctx, newApplication("my-app")))
		must(t)(nodes[0].CreateDevice(ctx, newDevice("my-app", "dev-1", 7)))
		if err := nodes[2].follow.settle(ctx); err != nil {
			t.Fatal(err)
		}
		changes := recorded(nodes[2])
		var wg sync.WaitGroup
		for i := range 9 {
			wg.Go(func() {
				if _, err := nodes[i%3].UpdateDevice(ctx, devID("my-app", "dev-1"), func(d *v3.EndDevice) error {
					if d.Attributes == nil {
						d.Attributes = map[string]string{}
					}
					d.Attributes[fmt.Sprintf("key-%d", i)] = "x"
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := nodes[2].follow.settle(ctx); err != nil {
			t.Fatal(err)
		}
		if d, err := nodes[0].Device(ctx, devID("my-app", "dev-1")); err != nil || len(d.Attributes) != 9 || len(*changes) == 0 || len(*changes) > 9 { // versions that were soon replaced may be left out
			t.Errorf("got %v, %v, %d changes announced", d.Attributes, err, len(*changes))
		}
	})
}
