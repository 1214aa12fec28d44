package registry

import (
	"fmt"
	"testing"

	v3 "lorikeet/messages/v3"
)

func manyDevices(n int) []v3.EndDevice {
	devices := make([]v3.EndDevice, n)
	for i := range devices {
		devices[i] = newDevice("my-app", fmt.Sprintf("dev-%d", i), uint64(i+1))
	}
	return devices
}

// What is wrong with one device, taken in the registry or twice in the batch, concerns that device only.
func TestManyDevicesAreMadeAtOnce(t *testing.T) {
	onEachFleet(t, func(t *testing.T, c fleet) {
		ctx := t.Context()
		nodes := openNodes(t, c, 2)
		r := nodes[0]
		must(t)(r.CreateApplication(ctx, newApplication("my-app")))
		must(t)(nodes[1].CreateDevice(ctx, newDevice("my-app", "dev-500", 100_001)))
		must(t)(nodes[1].CreateDevice(ctx, newDevice("my-app", "other", 601)))
		devices := manyDevices(900)
		devices[3].LoRaWANVersion = "9"
		devices[4].IDs.DeviceID = "No Id"
		devices[5].IDs.DeviceID = "dev-2"
		devices[6].IDs.DevEUI = devices[2].IDs.DevEUI
		devices[7].IDs.DevEUI, devices[7].IDs.JoinEUI, devices[7].SupportsJoin = nil, nil, false
		wrong := map[int]string{3: "invalid_lorawan_version", 4: "invalid_id", 5: "id_taken", 6: "end_device_euis_taken", 500: "id_taken", 600: "end_device_euis_taken"}
		for i, err := range r.CreateDevices(ctx, "my-app", devices) {
			switch name, bad := wrong[i]; {
			case bad:
				wantError(t, err, name)
			case err != nil:
				t.Errorf("device %d: %v", i, err)
			}
		}
		if _, total, err := r.DevicePage(ctx, "my-app", 0, 1); err != nil || total != 900-len(wrong)+2 {
			t.Errorf("there are %d devices, %v", total, err)
		}
		checkNodes(t, c.node(t), nodes...)
		for _, err := range r.CreateDevices(ctx, "nobody", manyDevices(3)) {
			wantError(t, err, "application_not_found")
		}
		wantError(t, r.CheckDevice(devices[3]), "invalid_lorawan_version")
		if err := r.CheckDevice(newDevice("my-app", "dev-new", 1)); err != nil {
			t.Errorf("a good device: %v", err)
		}
	})
}

func BenchmarkCreateDevices(b *testing.B) {
	r, _ := withApplication(b)
	devices := manyDevices(b.N)
	b.ResetTimer()
	for i, err := range r.CreateDevices(b.Context(), "my-app", devices) {
		if err != nil {
			b.Fatalf("device %d: %v", i, err)
		}
	}
}
