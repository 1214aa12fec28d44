package webhook

import (
	"net/url"
	"strings"

	"github.com/yosida95/uritemplate/v3"

	"lorikeet/messages"
)

const maxURL = 8 << 10

// endpoint is a base URL and a path: RFC 6570 templates over the ids of the device.
type endpoint struct {
	base, path *uritemplate.Template
}

// newEndpoint parses both templates and tries them out on an event that has every variable.
func newEndpoint(base, path string) (*endpoint, error) {
	b, err := uritemplate.New(base)
	if err != nil || len(base) > maxURL {
		return nil, messages.Invalid("webhook_base_url", "base_url is not a URL template: use for example https://example.com/lora{/devID}")
	}
	p, err := uritemplate.New(path)
	if err != nil || len(path) > maxURL {
		return nil, messages.Invalid("webhook_path", "path %q is not a URL template: use for example /up{/devID}", path)
	}
	e := &endpoint{base: b, path: p}
	_, err = e.expand(messages.Event{
		Device: messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}, DevEUI: messages.EUI64{1}, JoinEUI: messages.EUI64{1}, DevAddr: messages.DevAddr{1},
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// expand gives the URL for an event. Path and query of both parts are kept: the path is appended, the queries are joined.
func (e *endpoint) expand(event messages.Event) (string, error) {
	values := variables(event)
	base, err := expandPart(e.base, values)
	if err != nil {
		return "", messages.Invalid("webhook_base_url", "base_url is not a URL: use for example https://example.com/lora")
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" {
		return "", messages.Invalid("webhook_base_url", "base_url has no server: use for example https://example.com/lora")
	}
	path, err := expandPart(e.path, values)
	if err != nil || path.Scheme != "" || path.Host != "" || path.Opaque != "" {
		return "", messages.Invalid("webhook_path", "the path of a message type is appended to base_url: use for example /up")
	}
	if add := strings.TrimLeft(path.EscapedPath(), "/"); add != "" || path.Path != "" {
		joined, err := url.Parse(strings.TrimRight(base.EscapedPath(), "/") + "/" + add)
		if err != nil {
			return "", messages.Invalid("webhook_path", "the path of a message type is not valid: use for example /up")
		}
		base.Path, base.RawPath = joined.Path, joined.RawPath
	}
	switch {
	case base.RawQuery == "":
		base.RawQuery = path.RawQuery
	case path.RawQuery != "":
		base.RawQuery += "&" + path.RawQuery
	}
	base.Fragment, base.RawFragment = "", ""
	return base.String(), nil
}

func expandPart(t *uritemplate.Template, values uritemplate.Values) (*url.URL, error) {
	text, err := t.Expand(values)
	if err != nil {
		return nil, err
	}
	return url.Parse(text)
}

// variables of a template; those that the device has not are undefined and expand to nothing.
func variables(e messages.Event) uritemplate.Values {
	v := uritemplate.Values{}
	set := func(value string, names ...string) {
		for _, name := range names {
			v.Set(name, uritemplate.String(value))
		}
	}
	set(e.Device.ApplicationID, "appID", "applicationID")
	set(e.Device.DeviceID, "devID", "deviceID")
	if !e.DevEUI.IsZero() {
		set(e.DevEUI.String(), "devEUI")
		// A JoinEUI of zero is a JoinEUI: a device with a DevEUI has one.
		set(e.JoinEUI.String(), "joinEUI", "appEUI")
	}
	if !e.DevAddr.IsZero() {
		set(e.DevAddr.String(), "devAddr")
	}
	return v
}
