package gateways

import (
	"fmt"
	"slices"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// maxTopicLength of a topic with its variables filled in, in bytes.
const maxTopicLength = 255

// TopicStyle is how a kind of server writes topics: levels between separators.
type TopicStyle struct {
	kind      string // for errors
	separator string
	anyLevel  string // the wildcard for one level
	advice    string
	forbidden func(r rune) bool
	reserved  []string // prefixes of topics that the server uses itself
	join      func(base, topic string) string
}

// MQTTTopics is the style of MQTT (3.1.1 §4.7): base/topic.
func MQTTTopics() TopicStyle {
	return TopicStyle{
		kind: "an MQTT topic", separator: "/", anyLevel: "+", advice: "use text without +, # and control characters", reserved: []string{"$SYS"},
		forbidden: func(r rune) bool { return r < ' ' || r == 0x7f || r == '+' || r == '#' },
		join: func(base, topic string) string {
			base, topic = strings.TrimRight(base, "/"), strings.TrimLeft(topic, "/")
			if base == "" || topic == "" {
				return base + topic
			}
			return base + "/" + topic
		},
	}
}

// NATSSubjects is the style of NATS: base.topic.
func NATSSubjects() TopicStyle {
	return TopicStyle{
		kind: "a NATS subject", separator: ".", anyLevel: "*", advice: "use words with dots between them, no spaces, no * and no >", reserved: []string{"$", "_INBOX."},
		forbidden: func(r rune) bool { return r <= ' ' || r == 0x7f || r == '*' || r == '>' },
		join: func(base, topic string) string {
			if base == "" || topic == "" {
				return base + topic
			}
			return base + "." + topic
		},
	}
}

// topicVariables are what a topic may hold in braces, with the most characters that it is replaced by.
var topicVariables = map[string]int{"device_id": 36, "application_id": 36, "dev_eui": 16, "join_eui": 16, "dev_addr": 8, "type": 26}

const variableNames = "{device_id}, {application_id}, {dev_eui}, {join_eui}, {dev_addr} and {type}"

// PubSubTopics are the checked topics of a pub/sub integration.
type PubSubTopics struct {
	Events    map[messages.EventType]TopicTemplate // to publish to
	Downlinks []DownlinkTopic                      // to subscribe to
}

// TopicTemplate is a topic with variables that each event fills in.
type TopicTemplate struct{ parts []topicPart }

// topicPart is text, or a variable if it has a name.
type topicPart struct{ text, variable string }

// DownlinkTopic is a subscription for downlink requests.
type DownlinkTopic struct {
	Filter    string // what to subscribe to; {device_id} is a wildcard in it
	Replace   bool   // the requests replace the queue
	separator string
	level     int // that names the device; -1: the body does
}

// ParseTopics checks the topics of p. A topic of which a downlink request could come back as an event, or the other way round, is refused:
// one refused request would answer the next for ever.
func ParseTopics(style TopicStyle, p *v3.PubSub) (PubSubTopics, error) {
	out := PubSubTopics{Events: map[messages.EventType]TopicTemplate{}}
	for _, t := range messages.EventTypes {
		topic, ok := p.Topic(t)
		if !ok {
			continue
		}
		template, err := parseTopic(style, p.BaseTopic, topic)
		if err != nil {
			return out, err
		}
		out.Events[t] = template
	}
	for _, d := range []struct {
		name  string
		topic *v3.MessageTopic
	}{{"downlink_push", p.DownlinkPush}, {"downlink_replace", p.DownlinkReplace}} {
		if d.topic == nil {
			continue
		}
		template, err := parseTopic(style, p.BaseTopic, d.topic.Topic)
		if err != nil {
			return out, err
		}
		topic, err := subscription(style, template.fill(map[string]string{"type": d.name, "application_id": p.IDs.ApplicationIDs.ApplicationID}))
		if err != nil {
			return out, err
		}
		topic.Replace = d.name == "downlink_replace"
		out.Downlinks = append(out.Downlinks, topic)
	}
	return out, out.checkOverlaps(style, p.IDs.ApplicationIDs.ApplicationID)
}

// parseTopic joins base and topic and reads the variables.
func parseTopic(style TopicStyle, base, topic string) (TopicTemplate, error) {
	joined, length := style.join(base, topic), 0
	var out TopicTemplate
	for rest := joined; rest != ""; {
		text, tail, open := strings.Cut(rest, "{")
		if text != "" {
			out.parts, length = append(out.parts, topicPart{text: text}), length+len(text)
		}
		if !open {
			break
		}
		name, after, closed := strings.Cut(tail, "}")
		longest, known := topicVariables[name]
		if !closed || !known {
			return out, messages.Invalid("pubsub_topic", "%q has an unknown variable in braces: use %s", joined, variableNames)
		}
		out.parts, length, rest = append(out.parts, topicPart{variable: name}), length+longest, after
	}
	switch {
	case length == 0 || length > maxTopicLength:
		return out, messages.Invalid("pubsub_topic", "base_topic and topic must have 1 to %d characters together, with the longest values of their variables", maxTopicLength)
	case strings.ToValidUTF8(joined, "") != joined || strings.ContainsFunc(joined, style.forbidden) || style.separator == "." && slices.Contains(strings.Split(joined, "."), ""):
		return out, messages.Invalid("pubsub_topic", "%q is not %s to publish to: %s", joined, style.kind, style.advice)
	}
	for _, prefix := range style.reserved {
		if strings.HasPrefix(joined, prefix) {
			return out, messages.Invalid("pubsub_topic", "%q is reserved by servers: use another base_topic", joined)
		}
	}
	return out, nil
}

// For gives the topic of an event. A value that the event does not have is "-".
func (t TopicTemplate) For(e messages.LogEntry) string {
	if len(t.parts) == 1 && t.parts[0].variable == "" {
		return t.parts[0].text
	}
	var b strings.Builder
	for _, part := range t.parts {
		if part.variable == "" {
			b.WriteString(part.text)
			continue
		}
		b.WriteString(topicValue(eventVariable(e, part.variable)))
	}
	return b.String()
}

func eventVariable(e messages.LogEntry, name string) string {
	switch {
	case name == "device_id":
		return e.Device.DeviceID
	case name == "application_id":
		return e.Device.ApplicationID
	case name == "dev_eui" && !e.DevEUI.IsZero():
		return e.DevEUI.String()
	case name == "join_eui" && !e.JoinEUI.IsZero():
		return e.JoinEUI.String()
	case name == "dev_addr" && !e.DevAddr.IsZero():
		return e.DevAddr.String()
	case name == "type":
		return string(e.Type)
	}
	return ""
}

// topicValue keeps a value in its level, whatever it is: what means something in a topic of any style, and %, is written as %XX.
func topicValue(s string) string {
	if s == "" {
		return "-"
	}
	if !strings.ContainsFunc(s, unsafeInTopic) {
		return s
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if unsafeInTopic(rune(c)) {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unsafeInTopic(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("./*>+#$%", r)
}

// fill puts in the values that are known before there is an event.
func (t TopicTemplate) fill(values map[string]string) TopicTemplate {
	var out TopicTemplate
	for _, part := range t.parts {
		if value, ok := values[part.variable]; ok {
			part = topicPart{text: topicValue(value)}
		}
		out.parts = append(out.parts, part)
	}
	return out
}

// levels splits a template; variables are in braces.
func (t TopicTemplate) levels(style TopicStyle) []string {
	var b strings.Builder
	for _, part := range t.parts {
		b.WriteString(part.text)
		if part.variable != "" {
			b.WriteString("{" + part.variable + "}")
		}
	}
	return strings.Split(b.String(), style.separator)
}

// subscription makes a topic to subscribe to of a template in which only {device_id} may be left, as one whole level.
func subscription(style TopicStyle, t TopicTemplate) (DownlinkTopic, error) {
	levels := t.levels(style)
	out := DownlinkTopic{level: -1, separator: style.separator}
	for i, level := range levels {
		switch {
		case !strings.Contains(level, "{"):
			continue
		case level != "{device_id}" || out.level >= 0:
			return out, messages.Invalid("pubsub_topic", "the topic of downlink_push and downlink_replace may hold {device_id} once, as a whole level such as %s, and {application_id} and {type}",
				strings.Join([]string{"lora", "{device_id}", "push"}, style.separator))
		}
		levels[i], out.level = style.anyLevel, i
	}
	out.Filter = strings.Join(levels, style.separator)
	return out, nil
}

// Device gives the device that a topic names; ok is false if topics of this subscription name none.
func (d DownlinkTopic) Device(topic string) (id string, ok bool) {
	if d.level < 0 {
		return "", false
	}
	levels := strings.Split(topic, d.separator)
	if d.level >= len(levels) {
		return "", true
	}
	return levels[d.level], true
}

func (p PubSubTopics) checkOverlaps(style TopicStyle, application string) error {
	filters := make([][]string, len(p.Downlinks))
	for i, d := range p.Downlinks {
		filters[i] = strings.Split(d.Filter, style.separator)
		if d.level >= 0 {
			filters[i][d.level] = "{device_id}"
		}
	}
	if len(filters) == 2 && overlap(filters[0], filters[1]) {
		return messages.Invalid("pubsub_topic", "downlink_push and downlink_replace have the same topic: give each its own")
	}
	for t, template := range p.Events {
		levels := template.fill(map[string]string{"type": string(t), "application_id": application}).levels(style)
		for _, filter := range filters {
			if overlap(filter, levels) {
				return messages.Invalid("pubsub_topic", "%s is published where downlink requests are taken from (%s): give each its own topic", t, strings.Join(filter, style.separator))
			}
		}
	}
	return nil
}

// overlap says whether one topic may be both. Two levels with variables are taken to be equal.
func overlap(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !levelsMeet(a[i], b[i]) {
			return false
		}
	}
	return true
}

func levelsMeet(a, b string) bool {
	if strings.Contains(a, "{") {
		a, b = b, a
	}
	if !strings.Contains(b, "{") {
		return a == b
	}
	if strings.Contains(a, "{") {
		return true
	}
	prefix, suffix := b[:strings.Index(b, "{")], b[strings.LastIndex(b, "}")+1:]
	return len(a) > len(prefix)+len(suffix) && strings.HasPrefix(a, prefix) && strings.HasSuffix(a, suffix)
}
