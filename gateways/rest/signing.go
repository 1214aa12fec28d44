package rest

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	// generate in place of a secret has the server make one.
	generate = "generate"
	// keptSecrets is how many secrets sign beside a new one, until they are dropped.
	keptSecrets = 1
)

// newSigningSecret is one of Standard Webhooks: 32 random bytes.
func newSigningSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails since Go 1.24
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

// generateSigningSecret makes the secret of a request that asks for it, and gives it to be shown once; "" if it does not.
func generateSigningSecret(req request[v3.Webhook]) (string, error) {
	secrets := req.value.SigningSecret
	for _, s := range secrets {
		if s == generate && len(secrets) > 1 {
			return "", messages.Invalid("webhook_signing_secret", "signing_secret: \"generate\" must stand alone; to add a secret to those there are, POST to …/signing-secret")
		}
	}
	if len(secrets) == 0 || secrets[0] != generate || !req.names("signing_secret") {
		return "", nil
	}
	secret := newSigningSecret()
	req.fields["signing_secret"] = []any{secret}
	return secret, nil
}

// hideSigningSecret leaves only how many there are.
func hideSigningSecret(t tree, w *v3.Webhook) {
	delete(t, "signing_secret")
	if n := len(w.SigningSecret); n > 0 {
		t["signing_secret_count"] = n
	}
}

func showGenerated(hide func(tree, *v3.Webhook), secret string) func(tree, *v3.Webhook) {
	if secret == "" {
		return hide
	}
	return func(t tree, w *v3.Webhook) {
		hide(t, w)
		t["signing_secret"] = secret
	}
}

type signingSecretBody struct {
	SigningSecret string `json:"signing_secret,omitempty"`
	Count         int    `json:"signing_secret_count"`
}

// rotateSigningSecret adds a new secret, which is shown once. The newest of those before it goes on signing, so that receivers can be changed over.
func (s *Server) rotateSigningSecret(c *call) error {
	secret := newSigningSecret()
	hook, err := s.changeSecrets(c, func(now v3.Secrets) v3.Secrets {
		return append(v3.Secrets{secret}, now[:min(len(now), keptSecrets)]...)
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, signingSecretBody{SigningSecret: secret, Count: len(hook.SigningSecret)})
}

// dropOldSigningSecrets ends a rotation: only the newest secret signs.
func (s *Server) dropOldSigningSecrets(c *call) error {
	hook, err := s.changeSecrets(c, func(now v3.Secrets) v3.Secrets { return now[:min(len(now), 1)] })
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, signingSecretBody{Count: len(hook.SigningSecret)})
}

func (s *Server) changeSecrets(c *call, change func(v3.Secrets) v3.Secrets) (v3.Webhook, error) {
	id := c.Param("webhook_id")
	if _, err := s.cfg.Registry.Webhook(c.ctx(), c.app(), id); err != nil { // SetWebhook would make it
		return v3.Webhook{}, err
	}
	return s.cfg.Registry.SetWebhook(c.ctx(), c.app(), id, func(w *v3.Webhook) error {
		w.SigningSecret = change(w.SigningSecret)
		return s.cfg.CheckWebhook(*w)
	})
}

func signingRoutes() []route {
	const secret = "/as/webhooks/:application_id/:webhook_id/signing-secret"
	return []route{
		{http.MethodPost, secret, integrate, (*Server).rotateSigningSecret},
		{http.MethodDelete, secret + "/previous", integrate, (*Server).dropOldSigningSecrets},
	}
}
