package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func TestNoticesReachWatchersOfAllNodes(t *testing.T) {
	t.Parallel()
	here, there := &notices{}, &notices{}
	here.tellNodes = func(body []byte) {
		if _, err := there.handle(t.Context(), "n1", body); err != nil {
			t.Error(err)
		}
	}
	got := map[string][]messages.DeliveryNotice{}
	note := func(who string) func(messages.DeliveryNotice) {
		return func(n messages.DeliveryNotice) { got[who] = append(got[who], n) }
	}
	defer here.watch(note("here"))()
	defer there.watch(note("there"))()
	there.watch(note("left"))()
	n := messages.DeliveryNotice{IntegrationRef: messages.IntegrationRef{Kind: "webhook", ApplicationID: "app1", ID: "wh1"}, What: messages.NoticeFailed, Error: "no answer in time"}
	here.publish(n)
	if diff := cmp.Diff(map[string][]messages.DeliveryNotice{"here": {n}, "there": {n}}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := there.handle(t.Context(), "n1", []byte("no JSON")); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("error %v", err)
	}
}
