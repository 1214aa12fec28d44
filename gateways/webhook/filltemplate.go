package webhook

import (
	"fmt"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Fill makes what a template says of a webhook, with fields in their places: base URL, format, headers, paths and field mask. In a URL a value is
// percent-encoded, unless it gives the server or the whole URL. A header all of whose fields are optional and empty is left out.
func (t *Templates) Fill(id string, fields map[string]string) (v3.Webhook, error) {
	template, err := t.Template(id)
	if err != nil {
		return v3.Webhook{}, err
	}
	values, err := fieldValues(template, fields)
	if err != nil {
		return v3.Webhook{}, err
	}
	w := v3.Webhook{Format: template.Format, BaseURL: fillURL(template.BaseURL, values), FieldMask: template.FieldMask}
	for name, value := range template.Headers {
		if filled, empty := fillText(value, values, nil); !empty {
			if w.Headers == nil {
				w.Headers = map[string]string{}
			}
			w.Headers[name] = filled
		}
	}
	for to, from := range map[**v3.MessagePath]*v3.MessagePath{
		&w.UplinkMessage: template.UplinkMessage, &w.UplinkNormalized: template.UplinkNormalized, &w.JoinAccept: template.JoinAccept,
		&w.DownlinkAck: template.DownlinkAck, &w.DownlinkNack: template.DownlinkNack, &w.DownlinkSent: template.DownlinkSent, &w.DownlinkFailed: template.DownlinkFailed,
		&w.DownlinkQueued: template.DownlinkQueued, &w.DownlinkQueueInvalidated: template.DownlinkQueueInvalidated, &w.LocationSolved: template.LocationSolved,
		&w.ServiceData: template.ServiceData,
	} {
		if from != nil {
			path, _ := fillText(from.Path, values, percentEncode)
			*to = &v3.MessagePath{Path: path}
		}
	}
	return w, nil
}

// fieldValues gives a value to each field of the template. Its errors name fields, never their values.
func fieldValues(template v3.WebhookTemplate, given map[string]string) (map[string]string, error) {
	values := map[string]string{}
	var known []string
	for _, f := range template.Fields {
		known = append(known, f.ID)
		value := given[f.ID]
		if value == "" {
			value = f.DefaultValue
		}
		if value == "" && !f.Optional {
			return nil, messages.Invalid("webhook_template_field", "template_fields.%s is missing: %s (%s)", f.ID, f.Name, f.Description)
		}
		values[f.ID] = value
	}
	for name := range given {
		if _, ok := values[name]; !ok {
			return nil, messages.Invalid("webhook_template_field", "template_fields.%.60s: the template %s has no such field, use %s",
				name, template.IDs.TemplateID, strings.Join(known, ", "))
		}
	}
	return values, nil
}

// fillURL takes what stands before the path as it is.
func fillURL(url string, values map[string]string) string {
	server := len(url)
	from := 0
	if i := strings.Index(url, "://"); i >= 0 {
		from = i + len("://")
	}
	if i := strings.IndexAny(url[from:], "/?"); i >= 0 {
		server = from + i
	}
	head, _ := fillText(url[:server], values, nil)
	tail, _ := fillText(url[server:], values, percentEncode)
	return head + tail
}

// fillText puts values in the place of their {id}. empty says that there were such places and no value had anything. What is in braces but no field is a
// variable of the URL.
func fillText(text string, values map[string]string, encode func(string) string) (filled string, empty bool) {
	places, something := 0, false
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{")
		out.WriteString(before)
		if !ok {
			return out.String(), places > 0 && !something
		}
		id, after, closed := strings.Cut(rest, "}")
		value, isField := values[id]
		if !closed || !isField {
			out.WriteByte('{')
			text = rest
			continue
		}
		places, something = places+1, something || value != ""
		if encode != nil {
			value = encode(value)
		}
		out.WriteString(value)
		text = after
	}
}

// percentEncode leaves the unreserved characters of RFC 3986 only, so that a value stays one part of a URL.
func percentEncode(s string) string {
	var out strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
			out.WriteByte(c)
		default:
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}
