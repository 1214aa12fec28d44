package rest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func TestEventsOfIntegrations(t *testing.T) {
	t.Parallel()
	watching := make(chan func(messages.DeliveryNotice), 2)
	d := newFleetDoor(t, func(cfg *Config) {
		cfg.WatchDeliveries = func(fn func(messages.DeliveryNotice)) func() { watching <- fn; return func() {} }
	})
	server := serve(t, d)
	whole := d.listen(t, server, `{"identifiers":[{"application_ids":{"application_id":"app1"}}],"names":["/^as\\.(webhook|pubsub)\\./"]}`)
	tellWhole := <-watching
	device := d.listen(t, server, `{"identifiers":[{"device_ids":{"device_id":"attic","application_ids":{"application_id":"app1"}}}]}`)
	tellDevice := <-watching
	whole.wants("events.stream.start")
	device.wants("events.stream.start")
	webhook := messages.IntegrationRef{Kind: "webhook", ApplicationID: "app1", ID: "wh1"}
	pubsub := messages.IntegrationRef{Kind: "pubsub", ApplicationID: "app1", ID: "ps1"}
	for _, n := range []messages.DeliveryNotice{
		{IntegrationRef: messages.IntegrationRef{Kind: "webhook", ApplicationID: "app2", ID: "wh1"}, What: messages.NoticeFailed, Time: noon},
		{IntegrationRef: pubsub, What: messages.NoticeStarted, Time: noon},
		{IntegrationRef: pubsub, What: messages.NoticeFailed, Time: noon, Error: "connection refused"},
		{IntegrationRef: pubsub, What: messages.NoticeStopped, Time: noon},
		{IntegrationRef: webhook, What: messages.NoticeFailed, Time: noon, DeviceID: "cellar", Error: "no answer in time"},
		{IntegrationRef: webhook, What: messages.NoticeFailed, Time: noon, DeviceID: "attic", Error: "the endpoint answered 500", StatusCode: 500},
	} {
		tellWhole(n)
		tellDevice(n)
	}
	whole.wants("as.pubsub.start")
	failed := whole.next()
	const start = `{"@type":"type.googleapis.com/ttn.lorawan.v3.ErrorDetails","namespace":"pkg/lorikeet",`
	if diff := cmp.Diff(start+`"name":"pubsub_failed","message_format":"connection refused","attributes":{"pub_sub_id":"ps1"},"code":14}`, string(failed.Data)); diff != "" || failed.Name != "as.pubsub.fail" {
		t.Error(failed.Name, diff)
	}
	stopped := whole.next()
	if diff := cmp.Diff(`{"@type":"`+typePubSub+`","application_ids":{"application_id":"app1"},"pub_sub_id":"ps1"}`, string(stopped.Data)); diff != "" || stopped.Name != "as.pubsub.stop" || !stopped.Time.Equal(noon) {
		t.Error(stopped.Name, diff)
	}
	whole.wants("as.webhook.fail cellar")
	got := device.next() // of the other devices, and of the application as a whole, it hears nothing
	if diff := cmp.Diff(start+`"name":"webhook_failed","message_format":"the endpoint answered 500","attributes":{"status_code":500,"webhook_id":"wh1"},"code":14}`, string(got.Data)); diff != "" ||
		got.Name != "as.webhook.fail" || got.Identifiers[0].DeviceIDs == nil || got.Identifiers[0].DeviceIDs.DeviceID != "attic" {
		t.Error(got, diff)
	}
}
