package registry

import (
	"context"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Link gives what the application gives its devices by default: a zero Link if nothing was set; application_not_found.
func (r *Registry) Link(ctx context.Context, app string) (v3.Link, error) {
	if err := r.need(ctx, app); err != nil {
		return v3.Link{}, err
	}
	return get[v3.Link](ctx, r, messages.KindLink, app, nil)
}

// SetLink changes it by compare-and-set: change may run more than once; application_not_found.
func (r *Registry) SetLink(ctx context.Context, app string, change func(*v3.Link) error) (v3.Link, error) {
	if err := r.need(ctx, app); err != nil {
		return v3.Link{}, err
	}
	return edit[v3.Link]{
		place:  place{kind: messages.KindLink, id: app, application: app},
		change: func(_ bool, v *v3.Link) error { return change(v) },
		settle: func(_ v3.Link, v *v3.Link) error {
			return validateFormatters("default_formatters", v.DefaultFormatters)
		},
	}.run(ctx, r)
}

// DeleteLink is no error if nothing was set; application_not_found.
func (r *Registry) DeleteLink(ctx context.Context, app string) error {
	if err := r.need(ctx, app); err != nil {
		return err
	}
	return r.remove(ctx, place{kind: messages.KindLink, id: app, application: app}, nil)
}

func webhookNotFound(app, id string) error {
	return messages.NotFound("webhook_not_found", "webhook %q not found in application %q", shorten(id), shorten(app))
}

// Webhooks of an application, sorted by id; application_not_found.
func (r *Registry) Webhooks(ctx context.Context, app string) ([]v3.Webhook, error) {
	return listIn[v3.Webhook](ctx, r, messages.KindWebhook, app)
}

// AllWebhooks of all applications.
func (r *Registry) AllWebhooks(ctx context.Context) ([]v3.Webhook, error) {
	return list[v3.Webhook](ctx, r, messages.KindWebhook, "")
}

// Webhook gives one; webhook_not_found.
func (r *Registry) Webhook(ctx context.Context, app, id string) (v3.Webhook, error) {
	return get[v3.Webhook](ctx, r, messages.KindWebhook, app+"."+id, webhookNotFound(app, id))
}

// SetWebhook changes one, or a new one, by compare-and-set: change may run more than once; application_not_found.
func (r *Registry) SetWebhook(ctx context.Context, app, id string, change func(*v3.Webhook) error) (v3.Webhook, error) {
	if err := r.checkIntegration(ctx, app, id); err != nil {
		return v3.Webhook{}, err
	}
	ids := v3.WebhookIDs{ApplicationIDs: v3.ApplicationIDs{ApplicationID: app}, WebhookID: id}
	return edit[v3.Webhook]{
		place: place{kind: messages.KindWebhook, id: app + "." + id, application: app},
		change: func(_ bool, v *v3.Webhook) error {
			v.IDs = ids
			return change(v)
		},
		settle: func(old v3.Webhook, v *v3.Webhook) error {
			v.IDs, v.HealthStatus, v.DeliveryStatus = ids, nil, nil
			v.CreatedAt, v.UpdatedAt = r.stamps(old.CreatedAt)
			return validateWebhook(v)
		},
	}.run(ctx, r)
}

// DeleteWebhook deletes one; webhook_not_found.
func (r *Registry) DeleteWebhook(ctx context.Context, app, id string) error {
	return r.remove(ctx, place{kind: messages.KindWebhook, id: app + "." + id, application: app}, webhookNotFound(app, id))
}

func pubSubNotFound(app, id string) error {
	return messages.NotFound("pubsub_not_found", "pub/sub integration %q not found in application %q", shorten(id), shorten(app))
}

// PubSubs of an application, sorted by id; application_not_found.
func (r *Registry) PubSubs(ctx context.Context, app string) ([]v3.PubSub, error) {
	return listIn[v3.PubSub](ctx, r, messages.KindPubSub, app)
}

// AllPubSubs of all applications.
func (r *Registry) AllPubSubs(ctx context.Context) ([]v3.PubSub, error) {
	return list[v3.PubSub](ctx, r, messages.KindPubSub, "")
}

// PubSub gives one; pubsub_not_found.
func (r *Registry) PubSub(ctx context.Context, app, id string) (v3.PubSub, error) {
	return get[v3.PubSub](ctx, r, messages.KindPubSub, app+"."+id, pubSubNotFound(app, id))
}

// SetPubSub changes one, or a new one, by compare-and-set: change may run more than once; application_not_found.
func (r *Registry) SetPubSub(ctx context.Context, app, id string, change func(*v3.PubSub) error) (v3.PubSub, error) {
	if err := r.checkIntegration(ctx, app, id); err != nil {
		return v3.PubSub{}, err
	}
	ids := v3.PubSubIDs{ApplicationIDs: v3.ApplicationIDs{ApplicationID: app}, PubSubID: id}
	return edit[v3.PubSub]{
		place: place{kind: messages.KindPubSub, id: app + "." + id, application: app},
		change: func(_ bool, v *v3.PubSub) error {
			v.IDs = ids
			return change(v)
		},
		settle: func(old v3.PubSub, v *v3.PubSub) error {
			v.IDs = ids
			v.CreatedAt, v.UpdatedAt = r.stamps(old.CreatedAt)
			return validatePubSub(v)
		},
	}.run(ctx, r)
}

// DeletePubSub deletes one; pubsub_not_found.
func (r *Registry) DeletePubSub(ctx context.Context, app, id string) error {
	return r.remove(ctx, place{kind: messages.KindPubSub, id: app + "." + id, application: app}, pubSubNotFound(app, id))
}

func (r *Registry) checkIntegration(ctx context.Context, app, id string) error {
	if err := r.need(ctx, app); err != nil {
		return err
	}
	return messages.ValidateID(id)
}
