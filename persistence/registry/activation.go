package registry

import (
	"cmp"
	"context"

	"lorikeet/messages"
	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
)

const maxKEKLabel = 2048

// ActivationSettings of an application: zero if nothing was set; application_not_found.
func (r *Registry) ActivationSettings(ctx context.Context, app string) (v3.ActivationSettings, error) {
	if err := r.need(ctx, app); err != nil {
		return v3.ActivationSettings{}, err
	}
	return get[v3.ActivationSettings](ctx, r, messages.KindActivation, app, nil)
}

// SetActivationSettings changes them by compare-and-set: change may run more than once; application_not_found.
func (r *Registry) SetActivationSettings(ctx context.Context, app string, change func(*v3.ActivationSettings) error) (v3.ActivationSettings, error) {
	if err := r.need(ctx, app); err != nil {
		return v3.ActivationSettings{}, err
	}
	return edit[v3.ActivationSettings]{
		place:  place{kind: messages.KindActivation, id: app, application: app},
		change: func(_ bool, v *v3.ActivationSettings) error { return change(v) },
		settle: func(_ v3.ActivationSettings, v *v3.ActivationSettings) error { return r.checkActivation(v) },
	}.run(ctx, r)
}

// DeleteActivationSettings is no error if nothing was set; application_not_found.
func (r *Registry) DeleteActivationSettings(ctx context.Context, app string) error {
	if err := r.need(ctx, app); err != nil {
		return err
	}
	return r.remove(ctx, place{kind: messages.KindActivation, id: app, application: app}, nil)
}

func (r *Registry) checkActivation(v *v3.ActivationSettings) error {
	if err := cmp.Or(
		checkText("kek_label", v.KEKLabel, maxKEKLabel),
		checkHex("home_net_id", v.HomeNetID, 6),
		checkText("application_server_id", v.ApplicationServerID, 100),
	); err != nil {
		return err
	}
	_, known := r.keks[v.KEKLabel]
	switch {
	case v.KEK == nil && v.KEKLabel != "" && !known:
		return refuse("kek_label", "names no KEK of the server's configuration: set kek too, or add the KEK to keks")
	case v.KEK == nil:
		return nil
	case v.KEKLabel == "":
		return refuse("kek_label", "is missing: name the KEK, so that receivers know which one to use")
	}
	if _, err := keywrap.New(v.KEKLabel, v.KEK.Key); err != nil {
		return refuse("kek.key", "has %d bytes: use 32, 48 or 64 hex digits", len(v.KEK.Key))
	}
	return nil
}

// KEK finds a key-encryption key by its label: that of the application, or one of the server's configuration. kek_not_found
// (messages.CodePrecondition) if there is none.
func (r *Registry) KEK(ctx context.Context, app, label string) (keywrap.KEK, error) {
	settings, err := r.ActivationSettings(ctx, app)
	if err != nil {
		return keywrap.KEK{}, err
	}
	if settings.KEK != nil && settings.KEKLabel == label {
		return keywrap.New(label, settings.KEK.Key)
	}
	if kek, ok := r.keks[label]; ok {
		return kek, nil
	}
	return keywrap.KEK{}, messages.Errorf(messages.CodePrecondition, "kek_not_found",
		"no KEK %q is known: set it with the settings of the application (/js/applications/%s/settings), or in the server's configuration (keks)", shorten(label), shorten(app))
}

// WrappingKEK gives the KEK that wraps the AppSKey of a device: the one that the device names, or its application. nil if none is named.
func (r *Registry) WrappingKEK(ctx context.Context, dev v3.EndDevice) (*keywrap.KEK, error) {
	app, label := dev.IDs.ApplicationIDs.ApplicationID, dev.ApplicationServerKEKLabel
	if label == "" {
		settings, err := r.ActivationSettings(ctx, app)
		if err != nil || settings.KEKLabel == "" {
			return nil, err
		}
		label = settings.KEKLabel
	}
	kek, err := r.KEK(ctx, app, label)
	if err != nil {
		return nil, err
	}
	return &kek, nil
}
