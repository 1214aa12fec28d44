package rest

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"lorikeet/messages"
	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
)

// Activations is the part of the Registry about how the keys of devices are wrapped.
type Activations interface {
	ActivationSettings(ctx context.Context, app string) (v3.ActivationSettings, error)
	SetActivationSettings(ctx context.Context, app string, change func(*v3.ActivationSettings) error) (v3.ActivationSettings, error)
	DeleteActivationSettings(ctx context.Context, app string) error
	// KEK finds a key-encryption key by its label.
	KEK(ctx context.Context, app, label string) (keywrap.KEK, error)
	// WrappingKEK gives the KEK that wraps the AppSKey of a device; nil if there is none.
	WrappingKEK(ctx context.Context, dev v3.EndDevice) (*keywrap.KEK, error)
}

func activationRoutes() []route {
	const path = "/js/applications/:application_id/settings"
	return []route{
		{http.MethodGet, path, settings, (*Server).getActivationSettings},
		{http.MethodPost, path, settings, (*Server).setActivationSettings},
		{http.MethodPut, path, settings, (*Server).setActivationSettings},
		{http.MethodDelete, path, application(messages.RightApplicationSettingsBasic, messages.RightApplicationDevicesWriteKeys), (*Server).deleteActivationSettings},
	}
}

// hideKEK: a KEK is never given back. That there is one can be told by kek_label.
func hideKEK(t tree, _ *v3.ActivationSettings) { delete(t, "kek") }

func (s *Server) getActivationSettings(c *call) error {
	found, err := s.cfg.Registry.ActivationSettings(c.ctx(), c.app())
	if err != nil {
		return err
	}
	paths, err := c.readPaths()
	if err != nil {
		return err
	}
	return written(c, found, paths, hideKEK) // without a mask all is shown, as there are no ids that could stand for it
}

func (s *Server) setActivationSettings(c *call) error {
	req, err := decodeRequest[v3.ActivationSettings](c, "settings")
	if err != nil {
		return err
	}
	if req.names("kek") || req.names("kek_label") {
		if err := c.needs(messages.RightApplicationDevicesWriteKeys); err != nil {
			return err
		}
	}
	set, err := s.cfg.Registry.SetActivationSettings(c.ctx(), c.app(), req.change())
	if err != nil {
		return err
	}
	return written(c, set, req.paths, hideKEK)
}

// deleteActivationSettings forgets the KEK as well: what was wrapped under it can only be opened by who else has it.
func (s *Server) deleteActivationSettings(c *call) error {
	if err := s.cfg.Registry.DeleteActivationSettings(c.ctx(), c.app()); err != nil {
		return err
	}
	return c.empty()
}

// wrappable are the keys of a device that may come wrapped.
var wrappable = []string{
	"root_keys.app_key", "root_keys.nwk_key",
	"session.keys.f_nwk_s_int_key", "session.keys.s_nwk_s_int_key", "session.keys.nwk_s_enc_key", "session.keys.app_s_key",
}

// unwrapKeys opens the keys of a write that are wrapped ({"kek_label":"…","encrypted_key":"…"}), so that they are kept like those that come in clear:
// sealed under the key of the store. An encrypted_key without a label is a key in clear, as in The Things Stack.
func (s *Server) unwrapKeys(c *call, req request[v3.EndDevice]) (request[v3.EndDevice], error) {
	opened := false
	for _, path := range wrappable {
		value, ok := lookup(req.fields, strings.Split(path, "."))
		envelope, isTree := value.(tree)
		if !ok || !isTree || envelope["encrypted_key"] == nil || envelope["key"] != nil {
			continue
		}
		key, err := s.unwrapKey(c.ctx(), c.app(), path, envelope)
		if err != nil {
			return req, err
		}
		assign(req.fields, strings.Split(path, "."), tree{"key": key.Hex()}, true)
		req.paths = inClear(req.paths, path)
		opened = true
	}
	if !opened {
		return req, nil
	}
	var err error
	req.value, err = fromTree[v3.EndDevice](req.fields)
	return req, err
}

func (s *Server) unwrapKey(ctx context.Context, app, path string, envelope tree) (messages.Key, error) {
	invalid := func(format string, args ...any) error {
		return messages.Invalid("invalid_key", "end_device."+path+": "+format, args...)
	}
	text, _ := envelope["encrypted_key"].(string)
	label, _ := envelope["kek_label"].(string)
	wrapped, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return messages.Key{}, invalid("encrypted_key is not base64")
	}
	if label == "" {
		if len(wrapped) != len(messages.Key{}) {
			return messages.Key{}, invalid("encrypted_key has %d bytes: without kek_label it is the key itself, 16 bytes", len(wrapped))
		}
		return messages.Key(wrapped), nil
	}
	kek, err := s.cfg.Registry.KEK(ctx, app, label)
	if err != nil {
		return messages.Key{}, err
	}
	key, err := kek.Unwrap(wrapped)
	if err != nil {
		return messages.Key{}, invalid("%v", err)
	}
	return key, nil
}

// inClear makes the paths of a mask that name the wrapped form of a key name its clear form.
func inClear(paths []string, key string) []string {
	out := make([]string, 0, len(paths))
	for _, p := range paths {
		if p == key+".encrypted_key" || p == key+".kek_label" {
			p = key + ".key"
		}
		out = append(out, p)
	}
	if paths == nil {
		return nil
	}
	return out
}

// wrapSessionKeys shows the AppSKeys under the KEK of the device, if it has one.
func (s *Server) wrapSessionKeys(ctx context.Context, dev *v3.EndDevice) error {
	kek, err := s.cfg.Registry.WrappingKEK(ctx, *dev)
	if err != nil || kek == nil {
		return err
	}
	for _, ses := range []**v3.Session{&dev.Session, &dev.PendingSession} {
		if *ses == nil || (*ses).Keys.AppSKey == nil || (*ses).Keys.AppSKey.Key == nil {
			continue
		}
		shown := **ses
		shown.Keys.AppSKey = v3.WrapKey(*kek, messages.Key(*shown.Keys.AppSKey.Key))
		*ses = &shown
	}
	return nil
}
