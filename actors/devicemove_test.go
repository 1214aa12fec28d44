package actors

import (
	"testing"
	"time"

	"lorikeet/messages"
)

var movedID = messages.DeviceID{ApplicationID: "app", DeviceID: "meter"}

// register is what the registry does in the middle of a move.
func (r *rig) register() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moved = movedID
	return nil
}

func TestADeviceMovesWithItsCountersAndQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.hear(phy(1, 2, true), 1, 1000, 868100000) // a FCntDown is spent for the answer
		time.Sleep(time.Second)
		if err := r.devices.PushDownlinks(t.Context(), testID, []messages.Downlink{{FPort: 5, FRMPayload: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		spent := r.sent[0].FCnt
		if err := r.devices.MoveDevice(t.Context(), testID, movedID, r.register); err != nil {
			t.Fatal(err)
		}
		if _, err := r.devices.DeviceState(t.Context(), testID); messages.CodeOf(err) != messages.CodeNotFound {
			t.Errorf("the old device answers %v", err)
		}
		if record, rev, err := r.store.LoadSession(t.Context(), testID); record != nil || rev != 0 || err != nil {
			t.Errorf("the old record is left: %d bytes, %v", len(record), err)
		}
		r.hear(phy(1, 2, true), 1, 9_000_000, 868100000) // a repetition, not a second event
		time.Sleep(time.Second)
		r.hear(phy(2, 2, false), 1, 12_000_000, 868100000)
		time.Sleep(time.Second)
		events := r.wantTypes(messages.EventUplink, messages.EventDownQueued, messages.EventUplink, messages.EventDownSent)
		if from := events[2].EndDeviceIDs; from.DeviceID != "meter" {
			t.Errorf("the uplink is of %+v", from)
		}
		seen := map[uint32]bool{spent: true}
		for _, tx := range r.sent[1:] {
			if seen[tx.FCnt] {
				t.Errorf("FCntDown %d is used twice", tx.FCnt)
			}
			seen[tx.FCnt] = true
		}
		if len(seen) < 3 {
			t.Errorf("%d answers", len(seen))
		}
	})
}

func TestAMoveThatFailsLeavesTheDevice(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		refused := messages.Errorf(messages.CodeConflict, "id_taken", "taken")
		err := r.devices.MoveDevice(t.Context(), testID, movedID, func() error {
			// In the middle of it nothing is done under the old id.
			if err := r.devices.PushDownlinks(t.Context(), testID, []messages.Downlink{{FPort: 5, FRMPayload: []byte("x")}}); messages.CodeOf(err) != messages.CodeUnavailable {
				t.Errorf("a device that moves takes a downlink: %v", err)
			}
			return refused
		})
		if err != refused { //nolint:errorlint // it is this very one
			t.Fatalf("got %v", err)
		}
		if record, _, err := r.store.LoadSession(t.Context(), movedID); record != nil || err != nil {
			t.Errorf("the copy is left, %v", err)
		}
		r.hear(phy(1, 2, false), 1, 1000, 868100000)
		time.Sleep(time.Second)
		r.wantTypes(messages.EventUplink)
		r.fail(true)
		if err := r.devices.MoveDevice(t.Context(), testID, movedID, r.register); messages.CodeOf(err) != messages.CodeUnavailable {
			t.Errorf("got %v", err)
		}
		r.fail(false)
		r.hear(phy(2, 2, false), 1, 2000, 868100000)
		time.Sleep(time.Second)
		r.wantTypes(messages.EventUplink, messages.EventUplink)
	})
}

// A node may end between the two steps: the device goes on, and the move can be made again.
func TestADeviceThatWasHandedOverAndStaysGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		if _, err := r.router.Ask(t.Context(), testID, handOver{movedID}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(movePatience)
		r.hear(phy(1, 2, false), 1, 1000, 868100000)
		time.Sleep(time.Second)
		r.wantTypes(messages.EventUplink)
		if err := r.devices.MoveDevice(t.Context(), testID, movedID, r.register); err != nil {
			t.Fatal(err)
		}
		r.hear(phy(1, 2, false), 1, 5_000_000, 868300000) // the newer record came along, so this one is old
		time.Sleep(time.Second)
		r.wantTypes(messages.EventUplink)
		if _, err := r.router.Ask(t.Context(), testID, handOver{movedID}); messages.CodeOf(err) != messages.CodeConflict {
			t.Errorf("a record is copied over that of a device in use: %v", err)
		}
	})
}
