package broker

import (
	"strings"

	"lorikeet/messages"
)

// suffixes end the topic of an event, after v3/{uid}/devices/{device_id}.
var suffixes = map[messages.EventType]string{
	messages.EventUplink:           "/up",
	messages.EventUplinkNormalized: "/up/normalized",
	messages.EventJoin:             "/join",
	messages.EventDownQueued:       "/down/queued",
	messages.EventDownSent:         "/down/sent",
	messages.EventDownAck:          "/down/ack",
	messages.EventDownNack:         "/down/nack",
	messages.EventDownFailed:       "/down/failed",
	messages.EventDownInvalidated:  "/down/invalidated",
	messages.EventLocationSolved:   "/location/solved",
	messages.EventServiceData:      "/service/data",
}

// parseUsername splits "application" or "application@tenant". There is one tenant here, so any well-formed name of one is good: clients of
// The Things Stack write "app@ttn".
func parseUsername(name string) (application string, ok bool) {
	application, tenant, has := strings.Cut(name, "@")
	if messages.ValidateID(application) != nil || has && !validTenant(tenant) {
		return "", false
	}
	return application, true
}

func validTenant(t string) bool {
	if t == "" || len(t) > 36 || t[0] == '-' || t[len(t)-1] == '-' {
		return false
	}
	return strings.Trim(t, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" // every byte is one of these, since '-' is no end
}

// rewriteFilter turns a topic filter of a client with this uid into its levels below v3/{uid}, and the name of the share group if it has one.
// As in The Things Stack "#", "v3/#" and "v3/+/..." mean the client's own application; any other filter is refused.
func rewriteFilter(uid, filter string) (share string, levels []string, ok bool) {
	levels = strings.Split(filter, "/")
	if levels[0] == "$share" {
		if len(levels) < 3 || levels[1] == "" || strings.ContainsAny(levels[1], "+#") {
			return "", nil, false
		}
		share, levels = levels[1], levels[2:]
	}
	for i, l := range levels {
		if strings.ContainsRune(l, 0) || l == "#" && i != len(levels)-1 || len(l) > 1 && strings.ContainsAny(l, "+#") {
			return "", nil, false
		}
	}
	switch {
	case len(levels) == 1 && levels[0] == "#":
		return share, levels, true
	case len(levels) < 2 || levels[0] != "v3":
		return "", nil, false
	case levels[1] == "#":
		return share, levels[1:], true
	case levels[1] == "+" || levels[1] == uid:
		return share, levels[2:], true
	}
	return "", nil, false
}

// validFilter says whether a topic filter has the right form [MQTT-4.7.1]. Control characters are left out as in topic names.
func validFilter(filter string) bool {
	levels := strings.Split(filter, "/")
	if levels[0] == "$share" && (len(levels) < 3 || levels[1] == "" || strings.ContainsAny(levels[1], "+#") || len(levels) == 3 && levels[2] == "") {
		return false
	}
	for i, l := range levels {
		if l == "#" && i != len(levels)-1 || len(l) > 1 && strings.ContainsAny(l, "+#") {
			return false
		}
	}
	return filter != "" && !strings.ContainsFunc(filter, func(r rune) bool { return r < ' ' || r == 0x7F })
}

// matches says whether a topic is matched by a filter, both as levels [MQTT-4.7.1].
func matches(filter, topic []string) bool {
	for i, f := range filter {
		if f == "#" {
			return true // also the parent level [MQTT-4.7.1.2]
		}
		if i >= len(topic) || f != "+" && f != topic[i] {
			return false
		}
	}
	return len(filter) == len(topic)
}

// deviceOf is the device that a filter below v3/{uid} is limited to, "" if there is no such limit.
func deviceOf(levels []string) string {
	if len(levels) < 2 || levels[0] == "#" || levels[1] == "#" || levels[1] == "+" {
		return ""
	}
	return levels[1]
}

// parseCommand reads the topic v3/{uid}/devices/{device_id}/down/{push,replace}.
func parseCommand(uid, topic string) (device string, replace, ok bool) {
	rest, ok := strings.CutPrefix(topic, "v3/"+uid+"/devices/")
	if !ok {
		return "", false, false
	}
	device, verb, _ := strings.Cut(rest, "/")
	if messages.ValidateID(device) != nil {
		return "", false, false
	}
	switch verb {
	case "down/push":
		return device, false, true
	case "down/replace":
		return device, true, true
	}
	return "", false, false
}

// deviceInTopic is the device that a topic of this uid seems to be about, "" if there is none.
func deviceInTopic(uid, topic string) string {
	rest, ok := strings.CutPrefix(topic, "v3/"+uid+"/devices/")
	device, _, _ := strings.Cut(rest, "/")
	if !ok || strings.ContainsFunc(device, func(r rune) bool { return r < ' ' }) {
		return ""
	}
	return device
}

// parseResponseTopic gives what comes after v3/{uid}/ in a response topic; "" is none. Topics of events and commands are not for responses: nobody is to
// take one for the other.
func parseResponseTopic(uid, topic string) (rest string, ok bool) {
	if topic == "" {
		return "", true
	}
	rest, ok = strings.CutPrefix(topic, "v3/"+uid+"/")
	if !ok || rest == "" || strings.ContainsAny(rest, "+#") {
		return "", false
	}
	_, after, inDevice := strings.Cut(strings.TrimPrefix(rest, "devices/"), "/")
	if !strings.HasPrefix(rest, "devices/") || !inDevice {
		return rest, true
	}
	for _, suffix := range suffixes {
		if "/"+after == suffix {
			return "", false
		}
	}
	return rest, after != "down/push" && after != "down/replace"
}
