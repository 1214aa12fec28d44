package registry

import (
	"fmt"
	"strings"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/memory"
)

func TestDevicesComeInPages(t *testing.T) {
	t.Parallel()
	store := memory.New()
	r, err := Open(t.Context(), store, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range []string{"app1", "app2"} {
		if _, err := r.CreateApplication(t.Context(), v3.Application{IDs: v3.ApplicationIDs{ApplicationID: app}}); err != nil {
			t.Fatal(err)
		}
	}
	const n = 300 // more than the registry reads at once
	for i := range n {
		dev := v3.EndDevice{IDs: v3.EndDeviceIDs{DeviceID: fmt.Sprintf("dev%03d", i), ApplicationIDs: v3.ApplicationIDs{ApplicationID: "app1"}}}
		if _, err := r.CreateDevice(t.Context(), dev); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindDevice, ID: "app1.dev001", Value: []byte("damaged")}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		app         string
		skip, limit int
		want        string
		total       int
	}{
		{"app1", 0, 3, "000 002", n}, {"app1", 254, 4, "254 255 256 257", n}, {"app1", 298, 10, "298 299", n}, {"app1", 300, 10, "", n},
		{"app1", 5, 0, "", n}, {"app2", 0, 10, "", 0},
	} {
		page, total, err := r.DevicePage(t.Context(), c.app, c.skip, c.limit)
		if err != nil || total != c.total {
			t.Errorf("%+v: %d in all, %v", c, total, err)
		}
		var ids []string
		for _, d := range page {
			ids = append(ids, d.IDs.DeviceID[3:])
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
	if _, _, err := r.DevicePage(t.Context(), "app9", 0, 1); messages.CodeOf(err) != messages.CodeNotFound {
		t.Errorf("an application that does not exist: %v", err)
	}
}
