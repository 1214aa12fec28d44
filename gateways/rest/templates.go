package rest

import (
	"encoding/json"
	"log/slog"
	"net/http"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// WebhookTemplates describe well-known targets.
type WebhookTemplates interface {
	// All templates, by id.
	All() []v3.WebhookTemplate
	// Template gives one; webhook_template_not_found.
	Template(id string) (v3.WebhookTemplate, error)
	// Fill makes what a template says of a webhook. It refuses a required field that is missing.
	Fill(id string, fields map[string]string) (v3.Webhook, error)
}

type noTemplates struct{}

func (noTemplates) All() []v3.WebhookTemplate { return nil }
func (noTemplates) Template(string) (v3.WebhookTemplate, error) {
	return v3.WebhookTemplate{}, messages.NotFound("webhook_template_not_found", "this server has no webhook templates")
}
func (n noTemplates) Fill(id string, _ map[string]string) (v3.Webhook, error) {
	_, err := n.Template(id)
	return v3.Webhook{}, err
}

func templateRoutes() []route {
	const templates = "/as/webhook-templates"
	return []route{
		{http.MethodGet, templates, anyKey, (*Server).listTemplates},
		{http.MethodGet, templates + "/:template_id", anyKey, (*Server).getTemplate},
	}
}

var templateOrders = orders[v3.WebhookTemplate]{"template_id": func(t *v3.WebhookTemplate) string { return t.IDs.TemplateID }}

func (s *Server) listTemplates(c *call) error {
	shown, err := shownBy[v3.WebhookTemplate](c, nil)
	if err != nil {
		return err
	}
	return listed(c, "templates", s.cfg.Templates.All(), templateOrders, shown)
}

func (s *Server) getTemplate(c *call) error {
	t, err := s.cfg.Templates.Template(c.Param("template_id"))
	if err != nil {
		return err
	}
	return show(c, t, nil)
}

// fromTemplate gives the change of a request. If it names a template or its fields, but no base_url, the server fills the template in; what the request
// names itself wins. Clients of The Things Stack fill templates in themselves and send the base_url. undo is for when the change is refused.
func (s *Server) fromTemplate(c *call, req request[v3.Webhook], id string) (change func(*v3.Webhook) error, undo func(), err error) {
	change, undo = req.change(), func() {}
	if !req.names("template_ids") && !req.names("template_fields") || req.names("base_url") {
		return change, undo, nil
	}
	filled, undo, err := s.fillTemplate(c, change, id)
	if err != nil || filled == nil {
		return change, undo, err
	}
	fields, err := toTree(filled)
	if err != nil {
		return nil, undo, err
	}
	for name := range fields {
		if req.names(name) {
			delete(fields, name)
		}
	}
	fill := request[v3.Webhook]{fields: fields}.change()
	return func(w *v3.Webhook) error {
		if err := req.change()(w); err != nil {
			return err
		}
		return fill(w)
	}, undo, nil
}

// fillTemplate gives what the template of a webhook, as it will be after the change, says of it; nil if it has none.
func (s *Server) fillTemplate(c *call, change func(*v3.Webhook) error, id string) (filled *v3.Webhook, undo func(), err error) {
	undo = func() {}
	w, err := s.cfg.Registry.Webhook(c.ctx(), c.app(), id)
	if err != nil && messages.CodeOf(err) != messages.CodeNotFound {
		return nil, undo, err
	}
	if err := change(&w); err != nil {
		return nil, undo, err
	}
	ids, err := webhookTemplate(w)
	if err != nil || ids.TemplateID == "" {
		return nil, undo, err
	}
	hook, err := s.cfg.Templates.Fill(ids.TemplateID, w.TemplateFields)
	if err != nil {
		return nil, undo, err
	}
	hook.DownlinkAPIKey, undo, err = s.downlinkKey(c, ids.TemplateID, w)
	return &hook, undo, err
}

func webhookTemplate(w v3.Webhook) (ids v3.TemplateIDs, err error) {
	if len(w.TemplateIDs) == 0 {
		return ids, nil
	}
	if json.Unmarshal(w.TemplateIDs, &ids) != nil {
		return ids, messages.Invalid("decode_body", `webhook.template_ids: want {"template_id":"…"}`)
	}
	return ids, nil
}

// downlinkKey makes the API key that a template asks for, if the caller may make keys; "" if the webhook has one or needs none. Who may not is told to
// give one.
func (s *Server) downlinkKey(c *call, template string, w v3.Webhook) (key string, undo func(), err error) {
	undo = func() {}
	t, err := s.cfg.Templates.Template(template)
	if err != nil || !t.CreateDownlinkAPIKey || w.DownlinkAPIKey != "" {
		return w.DownlinkAPIKey, undo, err
	}
	if c.needs(messages.RightApplicationSettingsAPIKeys) != nil {
		c.Response().Header().Add("X-Warning", "the template needs an API key for downlinks, which this key may not make: set downlink_api_key")
		return "", undo, nil
	}
	made, err := s.cfg.Registry.CreateAPIKey(c.ctx(), c.app(), v3.APIKey{
		Name: "downlinks of a webhook: " + template, Rights: []messages.Right{messages.RightApplicationTrafficDownWrite},
	})
	if err != nil {
		return "", undo, err
	}
	return made.Key, func() {
		ctx, cancel := c.steadfast()
		defer cancel()
		if err := s.cfg.Registry.DeleteAPIKey(ctx, c.app(), made.ID); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "an API key that no webhook uses is left", slog.String("application_id", c.app()), slog.String("key_id", made.ID), slog.Any("err", err))
		}
	}, nil
}
