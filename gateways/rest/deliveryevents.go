package rest

import (
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const typePubSub = "type.googleapis.com/ttn.lorawan.v3.ApplicationPubSubIdentifiers"

// deliveryEventNames are those of The Things Stack, by the kind of integration and what happened to it.
var deliveryEventNames = map[string]map[string]string{
	"webhook": {messages.NoticeFailed: "as.webhook.fail"},
	"pubsub":  {messages.NoticeStarted: "as.pubsub.start", messages.NoticeStopped: "as.pubsub.stop", messages.NoticeFailed: "as.pubsub.fail"},
}

// eventOfDelivery is the event of what happened to an integration. One about a device names the device.
func (s *Server) eventOfDelivery(n messages.DeliveryNotice) eventBody {
	app := v3.ApplicationIDs{ApplicationID: n.ApplicationID}
	out := eventBody{
		Name: deliveryEventNames[n.Kind][n.What], Time: n.Time.UTC(), Identifiers: []eventEntityIDs{{ApplicationIDs: &app}}, Origin: s.cfg.Origin,
		Visibility: &rightsBody{[]messages.Right{messages.RightApplicationTrafficRead}}, UniqueID: newRequestID(""),
	}
	if n.DeviceID != "" {
		out.Identifiers = []eventEntityIDs{{DeviceIDs: &v3.EndDeviceIDs{DeviceID: n.DeviceID, ApplicationIDs: app}}}
	}
	if n.What != messages.NoticeFailed {
		out.Data = typed(typePubSub, asJSON(v3.PubSubIDs{ApplicationIDs: app, PubSubID: n.ID}))
		return out
	}
	details := v3.ErrorDetails{Namespace: "pkg/" + namespace, Name: n.Kind + "_failed", MessageFormat: n.Error, Attributes: map[string]any{}, Code: 14}
	details.Attributes[map[string]string{"webhook": "webhook_id", "pubsub": "pub_sub_id"}[n.Kind]] = n.ID
	if n.StatusCode != 0 {
		details.Attributes["status_code"] = n.StatusCode
	}
	out.Data = typed(typeError, asJSON(details))
	return out
}
