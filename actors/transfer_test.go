package actors

import (
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// What one server tells of a device, another takes over, and tells the same.
func TestADeviceMovesWithAllItsState(t *testing.T) {
	const text = `{"session":{"dev_addr":"01020304","keys":{"session_key_id":"AQI=","f_nwk_s_int_key":{"key":"01000000000000000000000000000000"},"app_s_key":{"key":"02000000000000000000000000000000"}},
		"last_f_cnt_up":41,"last_n_f_cnt_down":12,"last_a_f_cnt_down":12,"started_at":"2026-01-02T03:04:05Z",
		"queued_application_downlinks":[{"id":"01","f_port":5,"frm_payload":"AQI=","confirmed":true,"priority":"HIGH","correlation_ids":["c"],"confirmed_retry":{"attempt":1,"max_attempts":3}}]},
		"mac_state":{"current_parameters":{"rx1_delay":"RX_DELAY_5","rx1_data_rate_offset":"DATA_RATE_OFFSET_1","rx2_data_rate_index":"DATA_RATE_3","rx2_frequency":"869525000"},"f_cnt_up_used":true,"channel_mask_done":true},
		"last_dev_nonce":3,"used_dev_nonces":[1,3],"last_join_nonce":2,"last_seen_at":"2026-01-02T03:05:05Z","activated_at":"2026-01-02T03:04:05Z"}`
	inBubble(t, func(t *testing.T, r *rig) {
		if err := r.devices.DeleteDevice(t.Context(), testID); err != nil {
			t.Fatal(err)
		}
		if _, found, err := r.devices.StoredState(t.Context(), testID); err != nil || found {
			t.Fatalf("state of a new device: %v, %v", found, err)
		}
		var want v3.Transfer
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		for range 2 { // once more changes nothing
			if err := r.devices.RestoreDevice(t.Context(), testID, want, 0); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := r.router.Alive(); n != 0 {
			t.Errorf("%d actors are awake after the move", n)
		}
		got, found, err := r.devices.StoredState(t.Context(), testID)
		if err != nil || !found {
			t.Fatalf("%v, %v", found, err)
		}
		wantText, _ := json.Marshal(want)
		gotText, _ := json.Marshal(got)
		if d := cmp.Diff(string(wantText), string(gotText)); d != "" {
			t.Error(d)
		}
	})
}

func TestRestoreRefusesWhatNoDeviceHas(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for name, state := range map[string]v3.Transfer{
			"invalid_dev_nonce": {EndDevice: v3.EndDevice{UsedDevNonces: []v3.Uint32{1 << 16}}},
			"invalid_nonce":     {EndDevice: v3.EndDevice{LastJoinNonce: 1 << 24}},
			"no_dev_addr":       {EndDevice: v3.EndDevice{Session: &v3.Session{}}},
			"validate_body":     {EndDevice: v3.EndDevice{Session: &v3.Session{DevAddr: &addr, Queue: []v3.ApplicationDownlink{{FPort: 300}}}}},
		} {
			if err := r.devices.RestoreDevice(t.Context(), testID, state, 0); messages.CodeOf(err) != messages.CodeInvalid || refusalName(err) != name {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
