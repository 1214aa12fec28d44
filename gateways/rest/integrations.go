package rest

import (
	"net/http"
	"net/url"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// formatsBody lists the body formats of integrations.
type formatsBody struct {
	Formats map[string]string `json:"formats"`
}

func (s *Server) listFormats(c *call) error {
	return c.JSON(http.StatusOK, formatsBody{map[string]string{"json": "JSON"}})
}

var webhookOrders = orders[v3.Webhook]{
	"webhook_id": func(w *v3.Webhook) string { return w.IDs.WebhookID },
	"created_at": func(w *v3.Webhook) string { return timeText(w.CreatedAt) },
}

// managesIntegrations says whether the caller may write integrations. Who only reads traffic does not see their credentials: with those of a webhook
// one could do more than read.
func (c *call) managesIntegrations() bool { return c.needs(writeIntegrations...) == nil }

// hideFromWebhook takes away what nobody gets back, and the credentials if the caller may not write webhooks.
func (c *call) hideFromWebhook() func(tree, *v3.Webhook) {
	manages := c.managesIntegrations()
	return func(t tree, w *v3.Webhook) {
		hideSigningSecret(t, w)
		delete(t, "tls_client_key")
		if manages {
			return
		}
		for _, name := range []string{"headers", "downlink_api_key", "template_fields", "tls_ca", "tls_client_cert"} {
			delete(t, name)
		}
		if text, _ := t["base_url"].(string); text != "" {
			t["base_url"] = withoutCredentials(text)
		}
	}
}

// withoutCredentials gives scheme and host of a URL. User, path and query may hold secrets.
func withoutCredentials(text string) string {
	u, err := url.Parse(text)
	if err != nil { // a template or damaged: show nothing rather than too much
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
}

func (s *Server) addHealth(w *v3.Webhook) {
	w.HealthStatus = s.cfg.IntegrationHealth("webhook", w.IDs.ApplicationIDs.ApplicationID, w.IDs.WebhookID)
}

func (s *Server) listWebhooks(c *call) error {
	hooks, err := s.cfg.Registry.Webhooks(c.ctx(), c.app())
	if err != nil {
		return err
	}
	for i := range hooks {
		s.addHealth(&hooks[i])
	}
	shown, err := shownBy(c, c.hideFromWebhook())
	if err != nil {
		return err
	}
	return listed(c, "webhooks", hooks, webhookOrders, shown)
}

func (s *Server) getWebhook(c *call) error {
	hook, err := s.cfg.Registry.Webhook(c.ctx(), c.app(), c.Param("webhook_id"))
	if err != nil {
		return err
	}
	s.addHealth(&hook)
	return show(c, hook, c.hideFromWebhook())
}

// setWebhook changes a webhook or makes one. Its id is in the path (PUT) or in the body (POST).
func (s *Server) setWebhook(c *call) error {
	req, err := decodeRequest[v3.Webhook](c, "webhook")
	if err != nil {
		return err
	}
	id := c.Param("webhook_id")
	if id == "" {
		id = req.value.IDs.WebhookID
	}
	generated, err := generateSigningSecret(req)
	if err != nil {
		return err
	}
	change := req.change()
	hook, err := s.cfg.Registry.SetWebhook(c.ctx(), c.app(), id, func(w *v3.Webhook) error {
		if err := change(w); err != nil {
			return err
		}
		w.IDs = v3.WebhookIDs{ApplicationIDs: v3.ApplicationIDs{ApplicationID: c.app()}, WebhookID: id}
		return s.cfg.CheckWebhook(*w)
	})
	if err != nil {
		return err
	}
	s.addHealth(&hook)
	return written(c, hook, req.paths, showGenerated(c.hideFromWebhook(), generated))
}

func (s *Server) deleteWebhook(c *call) error {
	if err := s.cfg.Registry.DeleteWebhook(c.ctx(), c.app(), c.Param("webhook_id")); err != nil {
		return err
	}
	return c.empty()
}

var pubSubOrders = orders[v3.PubSub]{
	"pub_sub_id": func(p *v3.PubSub) string { return p.IDs.PubSubID },
	"created_at": func(p *v3.PubSub) string { return timeText(p.CreatedAt) },
}

// hideFromPubSub takes away credentials, and adds the health.
func (s *Server) hideFromPubSub(c *call) func(tree, *v3.PubSub) {
	manages := c.managesIntegrations()
	return func(t tree, p *v3.PubSub) {
		if health := s.cfg.IntegrationHealth("pubsub", c.app(), p.IDs.PubSubID); health != nil {
			t["health_status"] = health
		}
		if manages {
			return
		}
		for _, provider := range []string{"nats", "mqtt"} {
			if p, ok := t[provider].(tree); ok {
				text, _ := p["server_url"].(string)
				t[provider] = tree{"server_url": withoutCredentials(text)}
			}
		}
	}
}

func (s *Server) listPubSubs(c *call) error {
	pubsubs, err := s.cfg.Registry.PubSubs(c.ctx(), c.app())
	if err != nil {
		return err
	}
	shown, err := shownBy(c, s.hideFromPubSub(c))
	if err != nil {
		return err
	}
	return listed(c, "pubsubs", pubsubs, pubSubOrders, shown)
}

func (s *Server) getPubSub(c *call) error {
	pubsub, err := s.cfg.Registry.PubSub(c.ctx(), c.app(), c.Param("pub_sub_id"))
	if err != nil {
		return err
	}
	return show(c, pubsub, s.hideFromPubSub(c))
}

func (s *Server) setPubSub(c *call) error {
	req, err := decodeRequest[v3.PubSub](c, "pubsub")
	if err != nil {
		return err
	}
	id := c.Param("pub_sub_id")
	if id == "" {
		id = req.value.IDs.PubSubID
	}
	change := req.change()
	pubsub, err := s.cfg.Registry.SetPubSub(c.ctx(), c.app(), id, func(p *v3.PubSub) error {
		if err := change(p); err != nil {
			return err
		}
		switch { // one provider takes the place of the other
		case req.names("nats") && !req.names("mqtt"):
			p.MQTT = nil
		case req.names("mqtt") && !req.names("nats"):
			p.NATS = nil
		}
		p.IDs = v3.PubSubIDs{ApplicationIDs: v3.ApplicationIDs{ApplicationID: c.app()}, PubSubID: id}
		return s.cfg.CheckPubSub(*p)
	})
	if err != nil {
		return err
	}
	return written(c, pubsub, req.paths, s.hideFromPubSub(c))
}

func (s *Server) deletePubSub(c *call) error {
	if err := s.cfg.Registry.DeletePubSub(c.ctx(), c.app(), c.Param("pub_sub_id")); err != nil {
		return err
	}
	return c.empty()
}

// webhookPush and webhookReplace are the endpoints that X-Downlink-Push and -Replace name.
func (s *Server) webhookPush(c *call) error {
	return s.webhookDownlinks(c, s.cfg.Devices.PushDownlinks)
}
func (s *Server) webhookReplace(c *call) error {
	return s.webhookDownlinks(c, s.cfg.Devices.ReplaceDownlinks)
}

func (s *Server) webhookDownlinks(c *call, do queueWrite) error {
	hook, err := s.cfg.Registry.Webhook(c.ctx(), c.app(), c.Param("webhook_id"))
	if err != nil {
		return err
	}
	if hook.Paused {
		return &statusError{status: http.StatusNotAcceptable, grpc: 9, err: messages.Errorf(messages.CodePrecondition, "webhook_paused",
			"webhook %q is paused: resume it first", hook.IDs.WebhookID)}
	}
	if err := s.changeQueue(c, do); err != nil {
		return err
	}
	return c.NoContent(http.StatusOK)
}
